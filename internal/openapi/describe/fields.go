package describe

// given are the fields that the server sets, by type. A request need not have them, and what it has
// is ignored.
func given() map[string][]string {
	return map[string][]string{
		"SessionPool": {"id", "name", "type", "systemData"},
		"SessionPoolProperties": {"templateUpdateStatus", "poolManagementEndpoint",
			"provisioningState", "nodeCount"},
		"Identity":               {"principalId", "tenantId"},
		"McpServerSettings":      {"mcpServerEndpoint"},
		"SandpoolSettings":       {"revision", "problem", "notice", "pull", "ignored"},
		"ResourceGroup":          {"id", "name", "type", "properties"},
		"Environment":            {"id", "name", "type", "systemData"},
		"UserAssigned":           {"principalId", "clientId"},
		"UserAssignedIdentity":   {"id", "name", "type", "systemData"},
		"UserAssignedProperties": {"tenantId", "principalId", "clientId"},
		"RoleAssignment":         {"id", "name", "type"},
		"RoleAssignmentProperties": {"scope", "createdOn", "updatedOn", "createdBy",
			"updatedBy"},
	}
}

// empty are the fields that requests of Azure's clients have and that must be empty, by type.
func empty() map[string][]string {
	return map[string][]string{
		"CustomContainerTemplate":  {"initContainers", "volumes"},
		"Container":                {"volumeMounts"},
		"RegistryCredentials":      {"identity"},
		"PoolSecret":               {"keyVaultUrl", "identity"},
		"RoleAssignmentProperties": {"condition"},
		"DeploymentRequestDetails": {"templateLink"},
	}
}

// hidden are the fields that no answer has, by type.
func hidden() map[string][]string {
	return map[string][]string{"PoolSecret": {"value"}}
}

// bare makes a schema one of values with nothing in them.
func bare(schema object) {
	switch schema["type"] {
	case "array":
		schema["maxItems"] = 0
	case "object":
		schema["maxProperties"] = 0
	case "string":
		schema["maxLength"] = 0
	default:
		schema["type"] = "null"
	}
}
