package rest

import (
	"encoding/json"
	"time"
)

// Meta is the metadata of an object.
type Meta struct {
	Name              string            `json:"name,omitempty"`
	Namespace         string            `json:"namespace,omitempty"`
	UID               string            `json:"uid,omitempty"`
	ResourceVersion   string            `json:"resourceVersion,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
	Annotations       map[string]string `json:"annotations,omitempty"`
	CreationTimestamp *time.Time        `json:"creationTimestamp,omitempty"`
	DeletionTimestamp *time.Time        `json:"deletionTimestamp,omitempty"`
	OwnerReferences   []OwnerReference  `json:"ownerReferences,omitempty"`
}

// OwnerReference names the object with which this one goes.
type OwnerReference struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
}

// TypeMeta says what an object is.
type TypeMeta struct {
	Kind       string `json:"kind,omitempty"`
	APIVersion string `json:"apiVersion,omitempty"`
}

// Pod is a pod.
type Pod struct {
	TypeMeta
	Metadata Meta      `json:"metadata"`
	Spec     PodSpec   `json:"spec"`
	Status   PodStatus `json:"status,omitzero"`
}

// PodSpec is what a pod is to be.
type PodSpec struct {
	NodeName                      string            `json:"nodeName,omitempty"`
	RuntimeClassName              string            `json:"runtimeClassName,omitempty"`
	InitContainers                []Container       `json:"initContainers,omitempty"`
	Containers                    []Container       `json:"containers"`
	Volumes                       []Volume          `json:"volumes,omitempty"`
	RestartPolicy                 string            `json:"restartPolicy,omitempty"`
	TerminationGracePeriodSeconds *int64            `json:"terminationGracePeriodSeconds,omitempty"`
	DNSPolicy                     string            `json:"dnsPolicy,omitempty"`
	DNSConfig                     *DNSConfig        `json:"dnsConfig,omitempty"`
	ServiceAccountName            string            `json:"serviceAccountName,omitempty"`
	AutomountServiceAccountToken  *bool             `json:"automountServiceAccountToken,omitempty"`
	EnableServiceLinks            *bool             `json:"enableServiceLinks,omitempty"`
	HostUsers                     *bool             `json:"hostUsers,omitempty"`
	SecurityContext               *PodSecurity      `json:"securityContext,omitempty"`
	ImagePullSecrets              []LocalReference  `json:"imagePullSecrets,omitempty"`
	NodeSelector                  map[string]string `json:"nodeSelector,omitempty"`
	Tolerations                   []Toleration      `json:"tolerations,omitempty"`
	PriorityClassName             string            `json:"priorityClassName,omitempty"`
	TopologySpread                []TopologySpread  `json:"topologySpreadConstraints,omitempty"`
}

// DNSConfig is the resolver's configuration.
type DNSConfig struct {
	Nameservers []string `json:"nameservers,omitempty"`
}

// PodSecurity is the security context of all containers of a pod.
type PodSecurity struct {
	RunAsUser          *int64   `json:"runAsUser,omitempty"`
	RunAsGroup         *int64   `json:"runAsGroup,omitempty"`
	RunAsNonRoot       *bool    `json:"runAsNonRoot,omitempty"`
	SupplementalGroups []int64  `json:"supplementalGroups,omitempty"`
	GroupsPolicy       string   `json:"supplementalGroupsPolicy,omitempty"`
	SeccompProfile     *Seccomp `json:"seccompProfile,omitempty"`
}

// Seccomp names a seccomp profile.
type Seccomp struct {
	Type string `json:"type"`
}

// LocalReference names an object of the same namespace.
type LocalReference struct {
	Name string `json:"name"`
}

// Toleration lets a pod be where a taint keeps others away.
type Toleration struct {
	Key      string `json:"key,omitempty" yaml:"key"`
	Operator string `json:"operator,omitempty" yaml:"operator"`
	Value    string `json:"value,omitempty" yaml:"value"`
	Effect   string `json:"effect,omitempty" yaml:"effect"`
	Seconds  *int64 `json:"tolerationSeconds,omitempty" yaml:"seconds"`
}

// TopologySpread spreads pods over what a label of nodes tells apart.
type TopologySpread struct {
	MaxSkew           int           `json:"maxSkew"`
	TopologyKey       string        `json:"topologyKey"`
	WhenUnsatisfiable string        `json:"whenUnsatisfiable"`
	LabelSelector     LabelSelector `json:"labelSelector"`
}

// LabelSelector selects objects by labels.
type LabelSelector struct {
	MatchLabels map[string]string `json:"matchLabels,omitempty"`
}

// Container is one container of a pod.
type Container struct {
	Name            string             `json:"name"`
	Image           string             `json:"image"`
	ImagePullPolicy string             `json:"imagePullPolicy,omitempty"`
	Command         []string           `json:"command,omitempty"`
	Args            []string           `json:"args,omitempty"`
	WorkingDir      string             `json:"workingDir,omitempty"`
	Env             []EnvVar           `json:"env,omitempty"`
	Resources       Resources          `json:"resources,omitzero"`
	VolumeMounts    []VolumeMount      `json:"volumeMounts,omitempty"`
	SecurityContext *ContainerSecurity `json:"securityContext,omitempty"`
}

// EnvVar is a variable of the environment.
type EnvVar struct {
	Name      string     `json:"name"`
	Value     string     `json:"value,omitempty"`
	ValueFrom *EnvSource `json:"valueFrom,omitempty"`
}

// EnvSource is where the value of a variable is.
type EnvSource struct {
	SecretKeyRef *SecretKey `json:"secretKeyRef,omitempty"`
}

// SecretKey is one value of a Secret.
type SecretKey struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

// Resources are what a container is given and bounded by.
type Resources struct {
	Limits   map[string]string `json:"limits,omitempty"`
	Requests map[string]string `json:"requests,omitempty"`
}

// ContainerSecurity is the security context of one container.
type ContainerSecurity struct {
	Capabilities             *Capabilities `json:"capabilities,omitempty"`
	Privileged               *bool         `json:"privileged,omitempty"`
	AllowPrivilegeEscalation *bool         `json:"allowPrivilegeEscalation,omitempty"`
	ReadOnlyRootFilesystem   *bool         `json:"readOnlyRootFilesystem,omitempty"`
}

// Capabilities are given and taken, without CAP_.
type Capabilities struct {
	Add  []string `json:"add,omitempty"`
	Drop []string `json:"drop,omitempty"`
}

// Volume is a volume of a pod. It has one of its kinds.
type Volume struct {
	Name     string       `json:"name"`
	EmptyDir *EmptyDir    `json:"emptyDir,omitempty"`
	Image    *ImageVolume `json:"image,omitempty"`
}

// ImageVolume is the root of an image, read-only.
type ImageVolume struct {
	Reference  string `json:"reference"`
	PullPolicy string `json:"pullPolicy,omitempty"`
}

// EmptyDir is a folder that lives as long as its pod.
type EmptyDir struct {
	SizeLimit string `json:"sizeLimit,omitempty"`
}

// VolumeMount says where a volume is in a container.
type VolumeMount struct {
	Name      string `json:"name"`
	MountPath string `json:"mountPath"`
	SubPath   string `json:"subPath,omitempty"`
	ReadOnly  bool   `json:"readOnly,omitempty"`
}

// Phases of a pod.
const (
	Pending   = "Pending"
	Running   = "Running"
	Succeeded = "Succeeded"
	Failed    = "Failed"
)

// PodStatus is what a pod is.
type PodStatus struct {
	Phase             string            `json:"phase,omitempty"`
	Reason            string            `json:"reason,omitempty"`
	Message           string            `json:"message,omitempty"`
	PodIP             string            `json:"podIP,omitempty"`
	Conditions        []Condition       `json:"conditions,omitempty"`
	InitStatuses      []ContainerStatus `json:"initContainerStatuses,omitempty"`
	ContainerStatuses []ContainerStatus `json:"containerStatuses,omitempty"`
}

// Condition is one condition of an object.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// ContainerStatus is what a container is.
type ContainerStatus struct {
	Name  string         `json:"name"`
	Ready bool           `json:"ready"`
	State ContainerState `json:"state,omitzero"`
}

// ContainerState has one of its fields.
type ContainerState struct {
	Waiting    *Waiting    `json:"waiting,omitempty"`
	Running    *struct{}   `json:"running,omitempty"`
	Terminated *Terminated `json:"terminated,omitempty"`
}

// Waiting is why a container does not run yet.
type Waiting struct {
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// Terminated is how a container ended.
type Terminated struct {
	ExitCode int    `json:"exitCode"`
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"`
}

// PodList is a list of pods.
type PodList struct {
	Metadata ListMeta `json:"metadata"`
	Items    []Pod    `json:"items"`
}

// ListMeta is the metadata of a list.
type ListMeta struct {
	ResourceVersion string `json:"resourceVersion,omitempty"`
	Continue        string `json:"continue,omitempty"`
}

// Secret is a Secret. Its values are texts here, and never read back.
type Secret struct {
	TypeMeta
	Metadata   Meta              `json:"metadata"`
	Type       string            `json:"type,omitempty"`
	StringData map[string]string `json:"stringData,omitempty"`
	Immutable  *bool             `json:"immutable,omitempty"`
}

// NetworkPolicy says what the pods that it selects may reach, and who may reach them.
type NetworkPolicy struct {
	TypeMeta
	Metadata Meta              `json:"metadata"`
	Spec     NetworkPolicySpec `json:"spec"`
}

// NetworkPolicySpec is what a NetworkPolicy says.
type NetworkPolicySpec struct {
	PodSelector LabelSelector `json:"podSelector"`
	PolicyTypes []string      `json:"policyTypes"`
	Ingress     []Ingress     `json:"ingress,omitempty"`
	Egress      []Egress      `json:"egress,omitempty"`
}

// Ingress is one rule of who may reach a pod.
type Ingress struct {
	From []Peer `json:"from,omitempty"`
}

// Egress is one rule of what a pod may reach.
type Egress struct {
	To    []Peer `json:"to,omitempty"`
	Ports []Port `json:"ports,omitempty"`
}

// Port is a port of a rule.
type Port struct {
	Protocol string `json:"protocol,omitempty"`
	Port     int    `json:"port,omitempty"`
}

// Peer is the other side of a rule.
type Peer struct {
	IPBlock           *IPBlock       `json:"ipBlock,omitempty"`
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitempty"`
	PodSelector       *LabelSelector `json:"podSelector,omitempty"`
}

// IPBlock is a range of addresses.
type IPBlock struct {
	CIDR   string   `json:"cidr"`
	Except []string `json:"except,omitempty"`
}

// Status is how the API says that something did not work, or how a program ended.
type Status struct {
	Status  string         `json:"status,omitempty"`
	Message string         `json:"message,omitempty"`
	Reason  string         `json:"reason,omitempty"`
	Code    int            `json:"code,omitempty"`
	Details *StatusDetails `json:"details,omitempty"`
}

// StatusDetails are the details of a Status.
type StatusDetails struct {
	Name              string        `json:"name,omitempty"`
	Causes            []StatusCause `json:"causes,omitempty"`
	RetryAfterSeconds int           `json:"retryAfterSeconds,omitempty"`
}

// StatusCause is one cause.
type StatusCause struct {
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// Event is one event of a watch.
type Event struct {
	Type   string          `json:"type"` // ADDED, MODIFIED, DELETED, BOOKMARK or ERROR
	Object json.RawMessage `json:"object"`
}
