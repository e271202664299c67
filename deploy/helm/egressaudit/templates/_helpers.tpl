{{- define "egressaudit.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "egressaudit.fullname" -}}
{{- $name := include "egressaudit.name" . }}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "egressaudit.selector" -}}
app.kubernetes.io/name: {{ include "egressaudit.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "egressaudit.labels" -}}
{{ include "egressaudit.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "egressaudit.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "egressaudit.secret" -}}
{{ .Values.admin.existingSecret | default (printf "%s-admin" (include "egressaudit.fullname" .)) }}
{{- end }}

{{- /* What no schema can say. The message names the value, and what to write. */ -}}
{{- define "egressaudit.check" -}}
{{- if not .Values.clients }}
{{- fail "\n\nclients: say who may use egressaudit, as ranges: pods, and nodes that pull images. Write --set 'clients={10.244.0.0/16,192.168.10.0/24}'. There is no default, for it would make an open proxy.\n" }}
{{- end }}
{{- range .Values.clients }}
{{- if hasSuffix "/0" . }}{{ fail (printf "\n\nclients: %s is everybody: that is an open proxy. Write the ranges of pods and nodes.\n" .) }}{{ end }}
{{- end }}
{{- if and .Values.gateway.enabled (not .Values.gateway.skip) }}
{{- fail "\n\ngateway.skip: say what the gateway leaves alone: the service range of the cluster, at least. Write --set 'gateway.skip={10.96.0.0/12}'.\n" }}
{{- end }}
{{- if and .Values.gateway.enabled (not .Values.attribution.enabled) }}
{{- if or .Values.proxy.enabled .Values.dns.enabled }}
{{- fail "\n\nattribution.enabled: the gateway would take what the pods of proxy and dns send, record it twice, and spoil what they find out: only the cluster tells which pods they are. Write --set attribution.enabled=true, or --set proxy.enabled=false (and dns.enabled=false).\n" }}
{{- else if .Values.gateway.ownPods }}
{{- fail "\n\nattribution.enabled: only the cluster tells which pods gateway.ownPods names. Write --set attribution.enabled=true, or leave gateway.ownPods empty.\n" }}
{{- end }}
{{- end }}
{{- with .Values.ledger.persistence }}
{{- if and .enabled (gt (int $.Values.proxy.replicas) 1) (not (has "ReadWriteMany" .accessModes)) }}
{{- fail (printf "\n\nledger.persistence: %d replicas need a volume that each node can write. Write --set 'ledger.persistence.accessModes={ReadWriteMany}', or --set proxy.replicas=1.\n" (int $.Values.proxy.replicas)) }}
{{- end }}
{{- end }}
{{- if and .Values.dns.enabled (not .Values.resolver) (ne .Values.dnsPolicy "Default") }}
{{- fail (printf "\n\nresolver: with dnsPolicy %s the name server would ask the cluster's, which asks it. Write --set resolver=ADDRESS, or leave dnsPolicy at Default.\n" .Values.dnsPolicy) }}
{{- end }}
{{- if regexMatch "//[^/@]*:.*@" .Values.parent }}
{{- fail "\n\nparent: whoever may read pods would read the password in it. Put the URL into a Secret, and write --set parentSecret.name=NAME.\n" }}
{{- end }}
{{- if and .Values.parentSecret.name (ne .Values.parent "none") }}
{{- fail "\n\nparentSecret.name: parent names a corporate proxy already. Write one of the two.\n" }}
{{- end }}
{{- end }}

{{- /* Flags that proxy and gateway share. */ -}}
{{- define "egressaudit.args" -}}
- --config=/etc/egressaudit/config.yaml
- --watch-files
- --admin-token-file=/etc/egressaudit-admin/token
- --ledger=/ledger/$(POD_NAME).jsonl
- {{ printf "--trial=%s" (.Values.trial | default .Release.Name) | quote }}
- --mode={{ .Values.mode }}
- {{ printf "--parent=%s" (ternary "env" .Values.parent (ne .Values.parentSecret.name "")) | quote }}
- --drain={{ .Values.drainSeconds }}s
- --shutdown-delay={{ .Values.shutdownDelaySeconds }}s
{{- range .Values.clients }}
- --clients={{ . }}
{{- end }}
{{- range .Values.allowAddresses }}
- --allow-address={{ . }}
{{- end }}
{{- with .Values.resolver }}
- {{ printf "--resolver=%s" . | quote }}
{{- end }}
{{- if .Values.trust.configMap }}
- {{ printf "--trust=/etc/egressaudit-trust/%s" .Values.trust.key | quote }}
{{- end }}
{{- if .Values.attribution.enabled }}
- --kubernetes
{{- end }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{- define "egressaudit.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: EGRESSAUDIT_NODE
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
{{- with .Values.parentSecret }}
{{- if .name }}
{{- range list "HTTPS_PROXY" "HTTP_PROXY" }}
- name: {{ . }}
  valueFrom: {secretKeyRef: {name: {{ $.Values.parentSecret.name | quote }}, key: {{ $.Values.parentSecret.key | quote }}}}
{{- end }}
- {name: NO_PROXY, value: {{ $.Values.noProxy | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{- define "egressaudit.mounts" -}}
- {name: ledger, mountPath: /ledger}
- {name: tmp, mountPath: /tmp}
- {name: config, mountPath: /etc/egressaudit, readOnly: true}
- {name: admin, mountPath: /etc/egressaudit-admin, readOnly: true}
{{- if .Values.trust.configMap }}
- {name: trust, mountPath: /etc/egressaudit-trust, readOnly: true}
{{- end }}
{{- end }}

{{- define "egressaudit.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
- name: config
  configMap: {name: {{ include "egressaudit.fullname" . }}}
- name: admin
  secret: {secretName: {{ include "egressaudit.secret" . | quote }}, defaultMode: 0440, items: [{key: token, path: token}]}
{{- with .Values.trust }}
{{- if .configMap }}
- name: trust
  configMap: {name: {{ .configMap | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{- /* What each pod has in common, below its own. */ -}}
{{- define "egressaudit.pod" -}}
serviceAccountName: {{ include "egressaudit.fullname" . }}
automountServiceAccountToken: {{ .Values.attribution.enabled }}
enableServiceLinks: false
terminationGracePeriodSeconds: {{ add .Values.drainSeconds .Values.shutdownDelaySeconds 10 }}
dnsPolicy: {{ .Values.dnsPolicy }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "egressaudit.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
{{- end }}
