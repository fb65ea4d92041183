{{/* A scalar as text; a whole number of a values file comes as a float, and large ones as 1e+06. */}}
{{- define "juicefs-sidecar.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* Environment variables: `lists` of them; of those with one name, the last. */}}
{{- define "juicefs-sidecar.environment" -}}
{{- $names := list }}{{ $variables := dict }}
{{- range .lists }}{{ range . }}
{{- $names = append $names .name }}{{ $variables = set $variables .name . }}
{{- end }}{{ end }}
{{- range $name := uniq $names }}
{{- $variable := get $variables $name }}
- name: {{ $name | quote }}
{{- if hasKey $variable "valueFrom" }}
  valueFrom: {{- toYaml $variable.valueFrom | nindent 4 }}
{{- else }}
  value: {{ include "juicefs-sidecar.text" (get $variable "value" | default "") | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* What chart values become environment variables. */}}
{{- define "juicefs-sidecar.ownEnvironment" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- if .Values.besideCsiDriver.enabled }}
- {name: JUICEFS_MOUNT_NAMESPACE, value: {{ .Values.besideCsiDriver.namespace | quote }}}
{{- end }}
{{- if ne .Values.driverName "csi.juicefs.com" }}
- {name: DRIVER_NAME, value: {{ .Values.driverName | quote }}}
{{- end }}
{{- with .Values.defaultMountImage.ce }}
- {name: JUICEFS_CE_MOUNT_IMAGE, value: {{ . | quote }}}
{{- end }}
{{- with .Values.defaultMountImage.ee }}
- {name: JUICEFS_EE_MOUNT_IMAGE, value: {{ . | quote }}}
{{- end }}
{{- with .Values.jfsMountDir }}
- {name: JUICEFS_MOUNT_PATH, value: {{ . | quote }}}
{{- end }}
{{- if .Values.immutable }}
- {name: JUICEFS_IMMUTABLE, value: "true"}
{{- end }}
{{- end }}

{{/* Arguments of every program. */}}
{{- define "juicefs-sidecar.logArguments" -}}
{{- if ne .Values.logFormat "human" }}
- --log-format={{ .Values.logFormat }}
{{- end }}
{{- if ne .Values.logLevel "info" }}
- {{ printf "--log-level=%s" .Values.logLevel | quote }}
{{- end }}
{{- end }}

{{/* Arguments of what serves. */}}
{{- define "juicefs-sidecar.webhookArguments" -}}
{{- with .Values.webhook.existingSecret }}
- {{ printf "--tls-secret=%s" . | quote }}
{{- end }}
{{- range .Values.webhook.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{/* Arguments of what keeps the registration and makes volumes. */}}
{{- define "juicefs-sidecar.controllerArguments" -}}
{{- $webhook := .Values.webhook }}{{ $controller := .Values.controller }}
{{- if $controller.provisioner }}
- --worker=/run/worker/socket
{{- if .Values.worker.enterprise.enabled }}
- --enterprise-worker=/run/worker/enterprise
{{- end }}
{{- if ne (int $controller.provisionWorkerThreads) 16 }}
- --provision-workers={{ int $controller.provisionWorkerThreads }}
{{- end }}
{{- else }}
- --provisioner=false
{{- end }}
{{- if not $controller.claimSecrets }}
- --claim-secrets=false
{{- end }}
{{- if not $controller.leaderElection.enabled }}
- --leader-election=false
{{- end }}
{{- with $controller.leaderElection.leaseDuration }}
- --leader-election-lease-duration={{ . }}
{{- end }}
{{- if eq (include "juicefs-sidecar.certificates" .) "cert-manager" }}
- --inject-ca-from={{ .Release.Namespace }}/juicefs-sidecar-webhook
{{- else if eq (include "juicefs-sidecar.certificates" .) "own" }}
- --ca-file=/run/ca/ca.crt
{{- end }}
{{- if ne (int $webhook.timeoutSeconds) 10 }}
- --webhook-timeout={{ int $webhook.timeoutSeconds }}
{{- end }}
{{- if ne $webhook.FailurePolicy "Fail" }}
- --failure-policy={{ $webhook.FailurePolicy }}
{{- end }}
{{- if ne $webhook.guard "warn" }}
- --guard={{ $webhook.guard }}
{{- end }}
{{- if ne $webhook.namespaceSelector "juicefs.com/enable-injection=true" }}
- {{ printf "--namespace-selector=%s" $webhook.namespaceSelector | quote }}
{{- end }}
{{- if ne $webhook.serverlessNamespaceSelector "juicefs.com/enable-serverless-injection=true" }}
- {{ printf "--serverless-namespace-selector=%s" $webhook.serverlessNamespaceSelector | quote }}
{{- end }}
{{- if not (include "juicefs-sidecar.janitor" .) }}
- --janitor-namespace=
{{- end }}
{{- if ne .Values.kubeletDir "/var/lib/kubelet" }}
- {{ printf "--kubelet-directory=%s" .Values.kubeletDir | quote }}
{{- end }}
{{- range $controller.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{/* Container fields that all have. */}}
{{- define "juicefs-sidecar.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "juicefs-sidecar.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
{{- end }}

{{/* The workers, one for each edition of the client that has an image. */}}
{{- define "juicefs-sidecar.workerContainers" -}}
# Makes directories, sets quotas, removes data: what takes a JuiceFS client, which has no mount here and no
# privilege. It is root, as which alone a file system lets it remove what applications own, and nothing more.
{{ include "juicefs-sidecar.workerContainer" (dict "root" . "name" "worker" "image" .Values.worker.image "socket" "socket" "scratch" "work") }}
{{- if .Values.worker.enterprise.enabled }}
# The same for file systems of the enterprise edition, with its client.
{{ include "juicefs-sidecar.workerContainer" (dict "root" . "name" "enterprise-worker" "image" .Values.worker.enterprise.image "socket" "enterprise" "scratch" "enterprise") }}
{{- end }}
{{- end }}

{{- define "juicefs-sidecar.workerContainer" -}}
{{- $worker := .root.Values.worker -}}
- name: {{ .name }}
  image: {{ include "juicefs-sidecar.image" (dict "root" .root "image" .image "tag" "latest") | quote }}
  {{- with .image.pullPolicy }}
  imagePullPolicy: {{ . }}
  {{- end }}
  command: [/run/agent/jfs-agent, work, --socket=/run/worker/{{ .socket }}, --scratch=/scratch/{{ .scratch }}]
  {{- with include "juicefs-sidecar.environment" (dict "lists" (list $worker.envs)) }}
  env: {{- . | nindent 4 }}
  {{- end }}
  resources: {{- toYaml $worker.resources | nindent 4 }}
  securityContext:
    runAsNonRoot: false
    runAsUser: 0
    runAsGroup: 0
    {{- include "juicefs-sidecar.containerSecurity" .root | nindent 4 }}
  volumeMounts:
    - {name: worker, mountPath: /run/worker}
    - {name: agent, mountPath: /run/agent, readOnly: true}
    - {name: scratch, mountPath: /scratch}
{{- end }}

{{/* What puts the agent's program into them. */}}
{{- define "juicefs-sidecar.agentContainer" -}}
- name: agent
  image: {{ include "juicefs-sidecar.ownImage" . | quote }}
  {{- with .Values.image.pullPolicy }}
  imagePullPolicy: {{ . }}
  {{- end }}
  command: [/jfs-agent, install, --directory=/run/agent]
  resources:
    requests: {cpu: 10m, memory: 16Mi}
    limits: {memory: 64Mi}
  securityContext: {{- include "juicefs-sidecar.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - {name: agent, mountPath: /run/agent}
{{- end }}

{{/* Volumes of what does the controller's work. */}}
{{- define "juicefs-sidecar.controllerVolumes" -}}
{{- if .Values.controller.provisioner }}
# Two directories of their own: who may write to one may not change the other.
- {name: worker, emptyDir: {sizeLimit: 1Mi}}
- {name: agent, emptyDir: {sizeLimit: 8Mi}}
- {name: scratch, emptyDir: {sizeLimit: {{ .Values.worker.scratchSize }}}}
{{- end }}
{{- if eq (include "juicefs-sidecar.certificates" .) "own" }}
- name: ca
  {{- if .Values.webhook.caBundlePEM }}
  configMap: {name: juicefs-sidecar-ca-bundle}
  {{- else }}
  secret:
    secretName: {{ .Values.webhook.existingSecret | quote }}
    # The authority alone: the controller has no use for the key.
    items: [{key: ca.crt, path: ca.crt}]
  {{- end }}
{{- end }}
{{- end }}

{{- define "juicefs-sidecar.controllerMounts" -}}
{{- if .Values.controller.provisioner }}
- {name: worker, mountPath: /run/worker}
{{- end }}
{{- if eq (include "juicefs-sidecar.certificates" .) "own" }}
- {name: ca, mountPath: /run/ca, readOnly: true}
{{- end }}
{{- end }}

{{/* Fields of a pod's spec that say where it runs: `who` is webhook or controller. */}}
{{- define "juicefs-sidecar.scheduling" -}}
{{- $values := .root.Values }}{{ $own := get $values .who }}{{ $controller := $values.controller }}
priorityClassName: {{ $own.priorityClassName | default $controller.priorityClassName | default "juicefs-sidecar" | quote }}
{{- if ne (int $own.terminationGracePeriodSeconds) 30 }}
terminationGracePeriodSeconds: {{ int $own.terminationGracePeriodSeconds }}
{{- end }}
nodeSelector: {{- toYaml (merge (dict) ($own.nodeSelector | default $controller.nodeSelector) (dict "kubernetes.io/os" "linux")) | nindent 2 }}
{{- with $own.tolerations | default $controller.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- if $own.topologySpreadConstraints }}
{{- toYaml $own.topologySpreadConstraints | nindent 2 }}
{{- else }}
{{- range ternary (list "kubernetes.io/hostname" "topology.kubernetes.io/zone") (list "kubernetes.io/hostname") (eq .who "webhook") }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {app.kubernetes.io/component: {{ $.who }}}
{{- end }}
{{- end }}
{{- with $values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.hostAliases }}
hostAliases: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with $values.dnsConfig }}
dnsConfig: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Metadata of a pod template: `who` is webhook or controller. */}}
{{- define "juicefs-sidecar.podMetadata" -}}
{{- $own := get .root.Values .who -}}
labels:
  {{- with omit $own.podLabels "app.kubernetes.io/component" "app.kubernetes.io/name" "app.kubernetes.io/part-of" }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- include "juicefs-sidecar.baseLabels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .who }}
annotations:
  {{- with omit $own.podAnnotations "kubectl.kubernetes.io/default-container" }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  kubectl.kubernetes.io/default-container: {{ .who }}
{{- end }}
