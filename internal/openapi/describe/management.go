package describe

import (
	"github.com/sandpool/sandpool/api"
)

// The paths that others stand below.
const (
	subscription = "/subscriptions/{subscription}"
	group        = subscription + "/resourceGroups/{resourceGroup}"
	app          = subscription + "/providers/Microsoft.App"
	pools        = group + "/providers/Microsoft.App/sessionPools"
	pool         = pools + "/{pool}"
	endpoint     = group + "/sessionPools/{pool}"
	version      = "api-version"
)

func poolOperations(op adder) {
	op("SessionPools_ListBySubscription", "GET "+app+"/sessionPools",
		"Lists the pools of a subscription.").
		query(version, "$skipToken", api.SearchParameter).gives(200, api.SessionPools{})
	op("SessionPools_ListByResourceGroup", "GET "+pools, "Lists the pools of a resource group.").
		query(version, "$skipToken", api.SearchParameter).gives(200, api.SessionPools{})
	op("SessionPools_Get", "GET "+pool, "Reads a pool.").query(version).
		gives(200, api.SessionPool{}).is(304).fails(404)
	op("SessionPools_Exists", "HEAD "+pool, "Asks whether a pool is there.").query(version).
		is(204).fails(404)
	op("SessionPools_CreateOrUpdate", "PUT "+pool, "Makes or replaces a pool.").query(version).
		takes(api.SessionPool{}).gives(200, api.SessionPool{}).gives(201, api.SessionPool{}).
		fails(409, 412)
	op("SessionPools_Update", "PATCH "+pool, "Changes a pool: a merge patch.").query(version).
		takes(api.SessionPool{}).gives(200, api.SessionPool{}).gives(202, api.SessionPool{}).
		fails(404, 409, 412)
	op("SessionPools_Delete", "DELETE "+pool, "Deletes a pool and ends its sessions.").
		query(version).is(202, 204).fails(412)
	op("SessionPools_Status", "GET "+pool+"/status", "Says what the pool's sandboxes do.").
		query("$expand").gives(200, api.PoolStatus{}).fails(404)
	op("SessionPools_Egress", "GET "+pool+"/egress", "Says what its sandboxes may reach.").
		query("destination", "protocol").gives(200, api.EgressPolicy{}).fails(404)
	op("SessionPools_History", "GET "+pool+"/history", "Says how the pool did lately.").
		query("window").gives(200, api.History{}).fails(404)
	op("SessionPools_FetchMCPServerCredentials", "POST "+pool+"/fetchMCPServerCredentials",
		"Reads the key of the pool's MCP endpoint.").query(version).
		gives(200, api.McpServerCredentials{}).fails(404)
	for id, path := range map[string]string{
		"SessionPools_RotateMCPServerCredentials": "/rotateMCPServerCredentials",
		"SessionPools_RegenerateCredentials":      "/regenerateCredentials"} {
		op(id, "POST "+pool+path, "Makes a new key for the pool's MCP endpoint.").query(version).
			gives(200, api.McpServerCredentials{}).fails(404)
	}
	for id, what := range map[string]string{"Operations_Status": "containerappOperationStatuses",
		"Operations_Result": "containerappOperationResults"} {
		o := op(id, "GET "+app+"/locations/{location}/"+what+"/{operation}",
			"Reads how far an operation on a pool is.").query(version).fails(404)
		if id == "Operations_Status" {
			o.gives(200, api.Operation{})
		} else {
			o.gives(200, api.SessionPool{}).is(202, 204).fails(409)
		}
	}
}

func treeOperations(op adder) {
	op("Subscriptions_List", "GET /subscriptions", "Lists the subscriptions.").query(version).
		gives(200, api.List[api.Subscription]{})
	op("Tenants_List", "GET /tenants", "Lists the one tenant.").query(version).
		gives(200, api.List[api.Tenant]{})
	op("Subscriptions_Get", "GET "+subscription, "Reads a subscription.").query(version).
		gives(200, api.Subscription{})
	op("Locations_List", "GET "+subscription+"/locations", "Lists where pools can be.").
		query(version).gives(200, api.List[api.Location]{})
	op("Usages_List", "GET "+app+"/locations/{location}/usages", "Lists what is used of quotas.").
		query(version).gives(200, api.List[api.Usage]{})
	for scope, name := range map[string]string{"": "Tenant", subscription: ""} {
		op(name+"Providers_List", "GET "+scope+"/providers", "Lists resource providers.").
			query(version, "$expand").gives(200, api.List[api.Provider]{})
		op(name+"Providers_Get", "GET "+scope+"/providers/{provider}",
			"Reads a resource provider.").query(version, "$expand").gives(200, api.Provider{}).
			fails(404)
	}
	op("Providers_Register", "POST "+subscription+"/providers/{provider}/register",
		"Does what is done already.").query(version).gives(200, api.Provider{})
	for scope, name := range map[string]string{subscription: "Subscription", group: "Group"} {
		op(name+"Resources_List", "GET "+scope+"/resources", "Lists pools and environments.").
			query(version, "$filter", "$expand", "$top").gives(200, api.List[api.Resource]{})
	}
	op("ResourceGroups_List", "GET "+subscription+"/resourceGroups", "Lists resource groups.").
		query(version, "$filter", "$top").gives(200, api.List[api.ResourceGroup]{})
	op("ResourceGroups_Get", "GET "+group, "Reads a resource group.").query(version).
		gives(200, api.ResourceGroup{}).fails(404)
	op("ResourceGroups_Exists", "HEAD "+group, "Asks whether a resource group is there.").
		query(version).is(204).fails(404)
	op("ResourceGroups_Put", "PUT "+group, "Makes a resource group, or changes its tags.").
		query(version).takesPart(api.ResourceGroup{}).gives(200, api.ResourceGroup{}).
		gives(201, api.ResourceGroup{}).fails(409)
	op("ResourceGroups_Update", "PATCH "+group, "Changes the tags of a resource group.").
		query(version).takes(api.ResourceGroupPatch{}).gives(200, api.ResourceGroup{}).fails(404)
	op("ResourceGroups_Delete", "DELETE "+group, "Deletes a resource group with all in it.").
		query(version).is(202).fails(404)
	op("ResourceGroups_DeletionResult", "GET "+subscription+"/operationresults/{operation}",
		"Reads how far the deletion of a group is.").query(version).is(200, 202).fails(404)
	environmentOperations(op)
	identityOperations(op)
	roleOperations(op)
}

func environmentOperations(op adder) {
	const all = group + "/providers/Microsoft.App/managedEnvironments"
	const one = all + "/{environment}"
	op("ManagedEnvironments_ListBySubscription", "GET "+app+"/managedEnvironments",
		"Lists the environments of a subscription.").query(version).
		gives(200, api.List[api.Environment]{})
	op("ManagedEnvironments_ListByResourceGroup", "GET "+all,
		"Lists the environments of a resource group.").query(version).
		gives(200, api.List[api.Environment]{})
	op("ManagedEnvironments_Get", "GET "+one, "Reads an environment.").query(version).
		gives(200, api.Environment{}).fails(404)
	op("ManagedEnvironments_Exists", "HEAD "+one, "Asks whether an environment is there.").
		query(version).is(204).fails(404)
	op("ManagedEnvironments_CreateOrUpdate", "PUT "+one, "Makes or replaces an environment.").
		query(version).takesPart(api.Environment{}).gives(200, api.Environment{}).fails(409)
	op("ManagedEnvironments_Update", "PATCH "+one, "Changes an environment.").query(version).
		takesPart(api.Environment{}).gives(200, api.Environment{}).fails(404, 409)
	op("ManagedEnvironments_Delete", "DELETE "+one, "Deletes an environment without pools.").
		query(version).is(200, 204).fails(409)
}

func identityOperations(op adder) {
	const below = "/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
	const one = group + below + "/{identity}"
	op("UserAssignedIdentities_ListBySubscription", "GET "+subscription+below,
		"Lists the user-assigned identities of a subscription.").query(version, "$top").
		gives(200, api.List[api.UserAssignedIdentity]{})
	op("UserAssignedIdentities_ListByResourceGroup", "GET "+group+below,
		"Lists the user-assigned identities of a resource group.").query(version, "$top").
		gives(200, api.List[api.UserAssignedIdentity]{})
	op("UserAssignedIdentities_Get", "GET "+one, "Reads a user-assigned identity.").
		query(version).gives(200, api.UserAssignedIdentity{}).is(304).fails(404)
	op("UserAssignedIdentities_Exists", "HEAD "+one, "Asks whether an identity is there.").
		query(version).is(204).fails(404)
	op("UserAssignedIdentities_CreateOrUpdate", "PUT "+one,
		"Makes an identity, or changes its tags.").query(version).
		takesPart(api.UserAssignedIdentity{}).gives(200, api.UserAssignedIdentity{}).
		gives(201, api.UserAssignedIdentity{}).fails(409, 412)
	op("UserAssignedIdentities_Update", "PATCH "+one, "Changes the tags of an identity.").
		query(version).takes(api.UserAssignedIdentityPatch{}).
		gives(200, api.UserAssignedIdentity{}).fails(404, 409, 412)
	op("UserAssignedIdentities_Delete", "DELETE "+one,
		"Deletes an identity. Pools that have it keep its name, and get no tokens of it.").
		query(version).is(200, 204).fails(412)
}

func roleOperations(op adder) {
	for scope, name := range map[string]string{"": "Tenant", subscription: "Subscription",
		group: "Group", pool: "Pool"} {
		at := scope + "/providers/Microsoft.Authorization"
		op(name+"RoleDefinitions_List", "GET "+at+"/roleDefinitions", "Lists the roles.").
			query(version, "$filter").gives(200, api.List[api.RoleDefinition]{})
		op(name+"RoleDefinitions_Get", "GET "+at+"/roleDefinitions/{definition}",
			"Reads a role.").query(version).gives(200, api.RoleDefinition{}).fails(404)
		op(name+"RoleAssignments_List", "GET "+at+"/roleAssignments",
			"Lists who has which role.").query(version, "$filter").
			gives(200, api.List[api.RoleAssignment]{})
		op(name+"RoleAssignments_Get", "GET "+at+"/roleAssignments/{assignment}",
			"Reads a role assignment.").query(version).gives(200, api.RoleAssignment{}).fails(404)
		op(name+"RoleAssignments_Create", "PUT "+at+"/roleAssignments/{assignment}",
			"Gives a principal a role.").query(version).takes(api.RoleAssignment{}).
			gives(200, api.RoleAssignment{}).gives(201, api.RoleAssignment{}).fails(404, 409)
		op(name+"RoleAssignments_Delete", "DELETE "+at+"/roleAssignments/{assignment}",
			"Takes a role from a principal.").query(version).gives(200, api.RoleAssignment{}).
			is(204)
		op(name+"Locks_List", "GET "+at+"/locks", "Lists locks, of which there are none.").
			query(version).givesAs(200, "application/json", object{"type": "object",
			"properties": object{"value": object{"type": "array", "maxItems": 0}}})
		op(name+"Locks_Put", "PUT "+at+"/locks/{lock}", "Refuses a lock.").query(version).
			fails(400)
	}
}

func deploymentOperations(op adder) {
	const all = group + "/providers/Microsoft.Resources/deployments"
	const one = all + "/{deployment}"
	body := api.DeploymentRequest{}
	op("Deployments_List", "GET "+all, "Lists the deployments of a group.").
		query(version, "$filter", "$top").gives(200, api.List[api.Deployment]{})
	op("Deployments_Get", "GET "+one, "Reads a deployment.").query(version).
		gives(200, api.Deployment{}).fails(404)
	op("Deployments_Exists", "HEAD "+one, "Asks whether a deployment is there.").query(version).
		is(204).fails(404)
	op("Deployments_CreateOrUpdate", "PUT "+one, "Begins a deployment.").query(version).
		takes(body).gives(200, api.Deployment{}).gives(201, api.Deployment{}).fails(409)
	op("Deployments_Delete", "DELETE "+one, "Forgets a deployment.").query(version).is(204).
		fails(409)
	op("Deployments_Validate", "POST "+one+"/validate", "Says what is wrong with a template.").
		query(version).takes(body).gives(200, api.Deployment{})
	op("Deployments_WhatIf", "POST "+one+"/whatIf", "Says what a deployment would change.").
		query(version).takes(body).gives(200, api.WhatIf{})
	op("Deployments_Cancel", "POST "+one+"/cancel", "Ends a deployment that runs.").
		query(version).is(204).fails(404, 409)
	op("Deployments_ExportTemplate", "POST "+one+"/exportTemplate",
		"Refuses to show a template: none is kept.").query(version).fails(400)
	op("DeploymentOperations_List", "GET "+one+"/operations", "Lists what a deployment did.").
		query(version, "$top").gives(200, api.List[api.DeploymentOperation]{}).fails(404)
	op("DeploymentOperations_ListOld", "GET "+group+"/deployments/{deployment}/operations",
		"Lists what a deployment did, at its old path.").query(version, "$top").
		gives(200, api.List[api.DeploymentOperation]{})
	op("DeploymentOperations_Get", "GET "+one+"/operations/{operation}",
		"Reads what a deployment did with one resource.").query(version).
		gives(200, api.DeploymentOperation{}).fails(404)
	op("Deployments_Status", "GET "+one+"/operationStatuses/{operation}",
		"Reads how far a deployment is.").query(version).gives(200, api.Operation{}).fails(404)
}
