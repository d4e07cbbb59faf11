{{/* What the controller's Pod and the one of `helm test` have in common. */}}
{{- define "modulet.env" -}}
- name: ENV
  value: {{ .Values.environment | quote }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: CLIENT_ID
  value: {{ with .Values.clientId }}{{ . }}-{{ end }}$(POD_NAME)
- name: NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: MODULET_HTTP_ADDRESS
  value: 0.0.0.0:8080
- name: MODULET_LOG
  value: {{ .Values.log.level | quote }}
- name: MODULET_LOG_FORMAT
  value: {{ .Values.log.format | quote }}
- name: MODULET_ZONE_PER_BASE
  value: {{ .Values.bases.zonePerBase | quote }}
{{- with .Values.bases.addresses }}
- name: MODULET_BASE_ADDRESSES
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.modules.urls }}
- name: MODULET_MODULE_URLS
  value: {{ join "," . | quote }}
{{- end }}
- name: MODULET_SHARED_MODULE_NAMES
  value: {{ .Values.modules.sharedNames | quote }}
- name: ENABLE_MQTT_TUNNEL
  value: {{ .Values.mqtt.enabled | quote }}
{{- if .Values.mqtt.enabled }}
- name: MQTT_BROKER
  value: {{ required "mqtt.host is required: the host name or address of the MQTT broker" .Values.mqtt.host | quote }}
- name: MQTT_PORT
  value: {{ .Values.mqtt.port | quote }}
{{- with .Values.mqtt.clientPrefix }}
- name: MQTT_CLIENT_PREFIX
  value: {{ . | quote }}
{{- end }}
{{- if include "modulet.secretName" . }}
# Files, not values: they are read again for each connection, so a Secret that changes needs no new Pod.
- name: MQTT_USERNAME_FILE
  value: /etc/modulet/login/{{ .Values.mqtt.usernameKey }}
- name: MQTT_PASSWORD_FILE
  value: /etc/modulet/login/{{ .Values.mqtt.passwordKey }}
{{- end }}
{{- with .Values.mqtt.tls }}
{{- if .enabled }}
- name: MODULET_MQTT_TLS
  value: "true"
{{- end }}
{{- if .secretName }}
{{- with .caKey }}
- name: MQTT_CA_PATH
  value: /etc/modulet/tls/{{ . }}
{{- end }}
{{- if .clientCertificate }}
- name: MQTT_CLIENT_CRT_PATH
  value: /etc/modulet/tls/{{ .certificateKey }}
- name: MQTT_CLIENT_KEY_PATH
  value: /etc/modulet/tls/{{ .privateKeyKey }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.http.enabled }}
- name: ENABLE_HTTP_TUNNEL
  value: "true"
- name: HTTP_TUNNEL_LISTEN_PORT
  value: {{ .Values.http.port | quote }}
{{- if .Values.http.secret.existingSecret }}
- name: HTTP_TUNNEL_SECRET_FILE
  value: /etc/modulet/http-secret/{{ .Values.http.secret.key }}
{{- end }}
{{- with .Values.http.tls }}
{{- if .secretName }}
- name: HTTP_TUNNEL_CRT_PATH
  value: /etc/modulet/http-tls/{{ .certificateKey }}
- name: HTTP_TUNNEL_KEY_PATH
  value: /etc/modulet/http-tls/{{ .privateKeyKey }}
{{- if .clientCertificates }}
- name: HTTP_TUNNEL_CLIENT_CA_PATH
  value: /etc/modulet/http-tls/{{ .caKey }}
{{- end }}
{{- else if .clientCertificates }}
{{- fail "http.tls.clientCertificates needs http.tls.secretName: a Secret with certificate, key and authority" }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.kubelet }}
{{- if .enabled }}
# Kubernetes sets the address of the Service (it is made before).
- name: MODULET_KUBELET_API_ADDRESS
  value: {{ .address | default (printf "$(%s_SERVICE_HOST)" (include "modulet.kubeletName" $ | upper | replace "-" "_")) | quote }}
- name: MODULET_KUBELET_API_LISTEN
  value: 0.0.0.0:{{ .port }}
{{- if .tls.secretName }}
- name: MODULET_KUBELET_API_CRT_PATH
  value: /etc/modulet/kubelet-tls/{{ .tls.certificateKey }}
- name: MODULET_KUBELET_API_KEY_PATH
  value: /etc/modulet/kubelet-tls/{{ .tls.privateKeyKey }}
{{- if .tls.request }}
{{- fail "kubelet.tls.request asks for a certificate, and kubelet.tls.secretName names one: leave one of them out" }}
{{- end }}
{{- else if .tls.request }}
- name: MODULET_KUBELET_API_CSR_SECRET
  value: {{ include "modulet.kubeletName" $ }}
{{- end }}
{{- with .baseNamespaces }}
- name: MODULET_KUBELET_API_BASE_NAMESPACES
  value: {{ join "," . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.metaspace }}
{{- if ne (int .low) 95 }}
- name: MODULET_METASPACE_LOW
  value: {{ .low | quote }}
{{- end }}
{{- if not .wait }}
- name: MODULET_METASPACE_WAIT
  value: "false"
{{- end }}
{{- end }}
{{- if .Values.metrics.perBase }}
- name: MODULET_METRICS_PER_BASE
  value: "true"
{{- end }}
{{- if not .Values.probes.enabled }}
- name: MODULET_PROBES
  value: "false"
{{- end }}
{{- with .Values.probes.hosts }}
- name: MODULET_PROBE_HOSTS
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.basePods.namespaces }}
- name: MODULET_BASE_POD_NAMESPACES
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.reports.existingSecret }}
# Read again for each report.
- name: REPORT_HOOKS_FILE
  value: /etc/modulet/reports/{{ $.Values.reports.key }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "modulet.mounts" -}}
{{- range include "modulet.files" . | fromYamlArray }}
- name: {{ .name }}
  mountPath: /etc/modulet/{{ .name }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "modulet.volumes" -}}
{{- range include "modulet.files" . | fromYamlArray }}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "modulet.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "modulet.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
