{{/* What of the values of the JuiceFS CSI driver's chart means nothing here, and what to do about it: one line each, of
     those that end the installation (`refuse`) or of the others. */}}
{{- define "juicefs-sidecar.driverValues" -}}
{{- $values := .root.Values | toJson | fromJson }}
{{- range .root.Files.Get "files/driver-values.yaml" | fromYamlArray }}
{{- if eq .refuse $.refuse }}
{{- $at := $values }}{{ $there := true }}
{{- range splitList "." .key }}
{{- if and $there (kindIs "map" $at) (hasKey $at .) }}{{ $at = get $at . }}{{ else }}{{ $there = false }}{{ end }}
{{- end }}
{{- $written := toJson $at }}{{ $fine := eq $written "null" }}
{{- range .fine }}{{ if eq (toJson .) $written }}{{ $fine = true }}{{ end }}{{ end }}
{{- if and $there (not $fine) }}
{{ .key }}: {{ .say }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What cannot be installed, one line each. */}}
{{- define "juicefs-sidecar.problems" -}}
{{- include "juicefs-sidecar.driverValues" (dict "root" . "refuse" true) }}
{{- $webhook := .Values.webhook }}{{ $beside := .Values.besideCsiDriver.enabled }}
{{- $mode := .Values.mountMode }}
{{- if and (not (has $mode (list "sidecar" "serverless"))) (not (and $beside (has $mode (list "mountpod|sidecar" "mountpod|serverless")))) }}
mountMode: {{ $mode | quote }} means pods of the CSI driver's own, which this chart does not have. {{ if contains "|" $mode }}Keep that driver's release and set besideCsiDriver.enabled here, or write{{ else }}Write{{ end }} `mountMode: sidecar`.
{{- end }}
{{- if hasSuffix "juicefs-csi-driver" .Values.image.repository }}
image.repository: {{ .Values.image.repository | quote }} is the CSI driver. Take `image` away, or name an image of juicefs-sidecar.
{{- else if hasPrefix "v" .Values.image.tag }}
image.tag: {{ .Values.image.tag | quote }} is a version of the CSI driver. Take it away; versions of juicefs-sidecar have no `v`.
{{- end }}
{{- $replicas := int (ternary $webhook.replicas .Values.controller.replicas .Values.oneProgram) }}
{{- if and (not .Values.controller.leaderElection.enabled) (or (gt $replicas 1) (and .Values.oneProgram $webhook.autoscaling.enabled)) }}
controller.leaderElection.enabled: several replicas without an election would work against each other. Write `{{ ternary "webhook" "controller" .Values.oneProgram }}.replicas: 1` too, or take it away.
{{- end }}
{{- if and $webhook.existingSecret $webhook.certManager.enabled }}
webhook.certManager.enabled: the certificate is your own already (webhook.existingSecret). Take one of them away.
{{- end }}
{{- if and $webhook.caBundlePEM (not $webhook.existingSecret) }}
webhook.caBundlePEM: there is no certificate of yours that it belongs to. Name one in webhook.existingSecret, or take it away.
{{- end }}
{{- if and $webhook.certManager.enabled (not $webhook.existingSecret) (not (.Capabilities.APIVersions.Has "cert-manager.io/v1")) }}
webhook.certManager.enabled: there is no cert-manager in the cluster. Install it first, or take this away: the controller makes certificates by itself. (`helm template` knows no cluster: `--api-versions cert-manager.io/v1`.)
{{- end }}
{{- range list "podMonitor" "serviceMonitor" "prometheusRule" }}
{{- if and (get $.Values .).enabled (not ($.Capabilities.APIVersions.Has "monitoring.coreos.com/v1")) }}
{{ . }}.enabled: there is no Prometheus Operator in the cluster. Install it first, or take this away. (`helm template` knows no cluster: `--api-versions monitoring.coreos.com/v1`.)
{{- end }}
{{- end }}
{{- range $index, $class := .Values.storageClasses }}
{{- if and $class.enabled (not $class.existingSecret) (not (dig "name" "" ($class.backend | default dict))) }}
storageClasses[{{ $index }}].backend.name: the file system of class {{ $class.name | quote }} has no name. Give one, or a user secret (existingSecret).
{{- end }}
{{- end }}
{{- end }}

{{/* Ends the installation if something cannot be installed. */}}
{{- define "juicefs-sidecar.check" -}}
{{- with include "juicefs-sidecar.problems" . | trim }}
{{- fail (printf "\nvalues that have to be changed:\n%s\n" .) }}
{{- end }}
{{- end }}
