{{/* Labels of pods, and of everything else. */}}
{{- define "juicefs-sidecar.baseLabels" -}}
app.kubernetes.io/name: juicefs-sidecar
app.kubernetes.io/part-of: juicefs-sidecar
{{- end }}

{{/* Labels of every object. */}}
{{- define "juicefs-sidecar.labels" -}}
{{ include "juicefs-sidecar.baseLabels" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The name of an image: of `image` (a value), with `tag` where that has none. */}}
{{- define "juicefs-sidecar.image" -}}
{{- $name := .image.repository }}
{{- with .root.Values.global.imageRegistry }}{{ $name = printf "%s/%s" (trimSuffix "/" .) $name }}{{ end }}
{{- if .image.digest -}}
{{ $name }}@{{ .image.digest }}
{{- else -}}
{{ $name }}:{{ .image.tag | default .tag }}
{{- end }}
{{- end }}

{{/* The image of our programs. */}}
{{- define "juicefs-sidecar.ownImage" -}}
{{ include "juicefs-sidecar.image" (dict "root" . "image" .Values.image "tag" .Chart.AppVersion) }}
{{- end }}

{{/* The image that pods of ours run on nodes: the one that globalConfig names, or our own. */}}
{{- define "juicefs-sidecar.agentImage" -}}
{{- $agent := get (.Values.globalConfig | default dict) "agent" | default dict }}
{{- get $agent "image" | default (include "juicefs-sidecar.ownImage" .) }}
{{- end }}

{{/* Whether there is a janitor: not without what confines its pods. */}}
{{- define "juicefs-sidecar.janitor" -}}
{{- if and .Values.janitor.enabled (semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version) }}true{{ end }}
{{- end }}

{{/* Where certificates come from: `controller`, `cert-manager` or `own`. */}}
{{- define "juicefs-sidecar.certificates" -}}
{{- if .Values.webhook.existingSecret }}own{{ else if .Values.webhook.certManager.enabled }}cert-manager{{ else }}controller{{ end }}
{{- end }}

{{/* The Secret with the certificate that is served. */}}
{{- define "juicefs-sidecar.servingSecret" -}}
{{ .Values.webhook.existingSecret | default "juicefs-sidecar-tls" }}
{{- end }}

{{/* The account of what the controller does. */}}
{{- define "juicefs-sidecar.controllerAccount" -}}
{{ ternary "juicefs-sidecar-webhook" "juicefs-sidecar-controller" .Values.oneProgram }}
{{- end }}

{{/* Binds a ClusterRole of secrets to an account: `role`, `account`. In the whole cluster, or in the namespaces named. */}}
{{- define "juicefs-sidecar.secretBindings" -}}
{{- $root := .root }}{{ $role := .role }}{{ $account := .account }}
{{- $namespaces := $root.Values.rbac.secretNamespaces }}
{{- if $namespaces }}
{{- /* The user secrets of `storageClasses` are in ours. */}}
{{- range $root.Values.storageClasses }}{{ if .enabled }}{{ $namespaces = append $namespaces $root.Release.Namespace | uniq }}{{ end }}{{ end }}
{{- end }}
{{- range $namespace := $namespaces | default (list "") }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ ternary "RoleBinding" "ClusterRoleBinding" (ne $namespace "") }}
metadata:
  name: {{ $role }}
  {{- with $namespace }}
  namespace: {{ . | quote }}
  {{- end }}
  labels: {{- include "juicefs-sidecar.labels" $root | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ $role }}}
subjects:
  - {kind: ServiceAccount, name: {{ $account }}, namespace: {{ $root.Release.Namespace | quote }}}
{{- end }}
{{- end }}
