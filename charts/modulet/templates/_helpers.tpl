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

{{- define "modulet.selectorLabels" -}}
app.kubernetes.io/name: {{ include "modulet.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "modulet.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "modulet.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
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
{{- end }}
