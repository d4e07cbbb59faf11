{{- define "modulet.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "modulet.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "modulet.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* For what has no namespace of its own, or is in one that others share. */}}
{{- define "modulet.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "modulet.fullname" .) }}
{{- end }}

{{/* The same where only letters, digits, "-" and "." may be. */}}
{{- define "modulet.clusterDnsName" -}}
{{- printf "%s.%s" .Release.Namespace (include "modulet.fullname" .) }}
{{- end }}

{{/* Its user at the API server. */}}
{{- define "modulet.user" -}}
{{- printf "system:serviceaccount:%s:%s" .Release.Namespace (include "modulet.serviceAccountName" .) }}
{{- end }}

{{- define "modulet.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ printf "%s@%s" .repository .digest }}{{ else }}{{ printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) }}{{ end }}
{{- end }}
{{- end }}

{{- define "modulet.priorityClassName" -}}
{{- if .Values.priorityClassName }}{{ .Values.priorityClassName }}
{{- else if .Values.priorityClass.create }}{{ include "modulet.clusterDnsName" . }}
{{- end }}
{{- end }}

{{/* Room for so many bases with two modules each: what was measured, and half as much again. */}}
{{- define "modulet.resources" -}}
{{- if .Values.resources }}
{{- toYaml .Values.resources }}
{{- else }}
{{- $bases := int .Values.bases.count }}
{{- $size := dict "cpu" "50m" "request" "96Mi" "limit" "256Mi" }}
{{- if gt $bases 10000 }}
{{- $size = dict "cpu" "1" "request" "1Gi" "limit" "2Gi" }}
{{- else if gt $bases 5000 }}
{{- $size = dict "cpu" "500m" "request" "640Mi" "limit" "1Gi" }}
{{- else if gt $bases 2000 }}
{{- $size = dict "cpu" "250m" "request" "320Mi" "limit" "512Mi" }}
{{- else if gt $bases 1000 }}
{{- $size = dict "cpu" "100m" "request" "160Mi" "limit" "320Mi" }}
{{- end -}}
requests:
  cpu: {{ $size.cpu }}
  memory: {{ $size.request }}
limits:
  memory: {{ $size.limit }}
{{- end }}
{{- end }}

{{- define "modulet.selectorLabels" -}}
app.kubernetes.io/name: {{ include "modulet.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "modulet.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "modulet.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Annotations of an object: those of all, and its own. Takes the root and a map; nothing where there are none. */}}
{{- define "modulet.annotations" -}}
{{- with merge (dict) (index . 1) (index . 0).Values.commonAnnotations -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "modulet.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "modulet.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* The Secret with user and password; empty if the broker asks for none. */}}
{{- define "modulet.secretName" -}}
{{- if not .Values.mqtt.enabled }}
{{- else if .Values.mqtt.existingSecret }}
{{- .Values.mqtt.existingSecret }}
{{- else if .Values.mqtt.username }}
{{- printf "%s-mqtt" (include "modulet.fullname" .) }}
{{- end }}
{{- end }}

{{/* Whether a Deployment is there whose Pods lead without an election. Where Helm may not look, as in `helm template`, there is none. */}}
{{- define "modulet.beforeElection" -}}
{{- with lookup "apps/v1" "Deployment" .Release.Namespace (include "modulet.fullname" .) }}
{{- if not (dig "metadata" "annotations" "modulet.koupleless.io/leader-election" "" .) }}true{{- end }}
{{- end }}
{{- end }}

{{/* Where bases over HTTP find it. */}}
{{- define "modulet.httpServiceName" -}}
{{- default (include "modulet.fullname" .) .Values.http.service.name }}
{{- end }}

{{/* What the API server reaches for kubectl logs of modules. */}}
{{- define "modulet.kubeletName" -}}
{{- printf "%s-kubelet" (include "modulet.fullname" . | trunc 55 | trimSuffix "-") }}
{{- end }}

{{/* The Secrets that are files in the Pod, as a list of name (also of the directory) and Secret. */}}
{{- define "modulet.files" -}}
{{- with include "modulet.secretName" . }}
- { name: login, secret: {{ quote . }} }
{{- end }}
{{- if and .Values.mqtt.enabled .Values.mqtt.tls.secretName }}
- { name: tls, secret: {{ quote .Values.mqtt.tls.secretName }} }
{{- end }}
{{- if .Values.http.enabled }}
{{- with .Values.http.secret.existingSecret }}
- { name: http-secret, secret: {{ quote . }} }
{{- end }}
{{- with .Values.http.tls.secretName }}
- { name: http-tls, secret: {{ quote . }} }
{{- end }}
{{- end }}
{{- if and .Values.kubelet.enabled .Values.kubelet.tls.secretName }}
- { name: kubelet-tls, secret: {{ quote .Values.kubelet.tls.secretName }} }
{{- end }}
{{- with .Values.reports.existingSecret }}
- { name: reports, secret: {{ quote . }} }
{{- end }}
{{- end }}
