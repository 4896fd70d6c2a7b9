package control

import (
	"strings"

	"github.com/sandpool/sandpool/api"
)

// refuse reports every property that asks for something this server does not
// build. Values that ask for nothing (null, empty, off) are what az and the SDKs send
// for a code pool, and pass.
func refuse(ps *problems, identity *api.Identity, props *api.SessionPoolProperties, custom bool) {
	if identity != nil && identity.Type != "" && !strings.EqualFold(identity.Type, "None") {
		ps.unsupported("identity.type", "managed identities")
	}
	if props.EnvironmentID != "" && !custom {
		ps.unsupported("properties.environmentId", "managed environments")
	}
	if t := props.PoolManagementType; t != "" && !strings.EqualFold(t, dynamicType) {
		ps.unsupported("properties.poolManagementType", "pool management other than "+dynamicType)
	}
	if len(props.Secrets) > 0 && !custom {
		ps.unsupported("properties.secrets", "secrets")
	}
	if props.CustomContainerTemplate != nil && !custom &&
		!emptyTemplate(*props.CustomContainerTemplate) {
		ps.unsupported("properties.customContainerTemplate",
			"custom containers in pools of other types")
	}
	if len(props.ManagedIdentitySettings) > 0 {
		ps.unsupported("properties.managedIdentitySettings", "managed identities")
	}
}

// emptyTemplate reports whether t asks for nothing.
func emptyTemplate(t api.CustomContainerTemplate) bool {
	return t.Containers == nil && t.InitContainers == nil && t.Volumes == nil &&
		t.Ingress == nil && t.RegistryCredentials == nil
}
