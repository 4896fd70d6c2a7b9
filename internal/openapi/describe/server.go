package describe

import (
	"github.com/sandpool/sandpool/api"
)

func tokenOperations(op adder) {
	op("Tokens_List", "GET /sandpool/tokens", "Lists tokens, without their texts.").
		gives(200, api.Tokens{})
	op("Tokens_Create", "POST /sandpool/tokens", "Makes a token, and shows its text this once.").
		takes(api.TokenRequest{}).gives(201, api.NewToken{})
	op("Tokens_Get", "GET /sandpool/tokens/{id}", "Reads a token.").gives(200, api.Token{}).
		fails(404)
	op("Tokens_Delete", "DELETE /sandpool/tokens/{id}", "Revokes a token.").is(204).fails(404)
}

func eventOperations(op adder) {
	op("SessionPools_Events", "GET "+pool+"/events", "Says what happened to the pool lately.").
		query("after", "limit", "wait").gives(200, api.Events{}).fails(404)
	op("Server_Events", "GET /sandpool/events", "Says what happened lately.").
		query("after", "limit", "wait").gives(200, api.Events{})
}

func auditOperations(op adder) {
	op("Audit_List", "GET /sandpool/audit", "Reads the audit log, or waits for what follows.").
		query("after", "limit", "wait", "who", "on", "outcome", "since", "until").
		gives(200, api.AuditRecords{})
	op("Audit_Verify", "GET /sandpool/audit/verification", "Checks the audit log's hashes.").
		gives(200, api.AuditVerification{})
}

func usageOperations(op adder) {
	op("Usage_Totals", "GET /sandpool/usage", "Adds up what sessions have used.").
		query("by", "step", "scope", "who", "identifierHash", "since", "until").
		gives(200, api.UsageTotals{})
	op("Usage_Records", "GET /sandpool/usage/records", "Lists what each session has used.").
		query("after", "limit", "scope", "who", "identifierHash", "since", "until").
		gives(200, api.UsageRecords{})
}

func deviceOperations(op adder) {
	op("Devices_Approve", "POST /sandpool/devices", "Lets the program that shows a code sign in.").
		takes(api.DeviceApproval{}).is(204)
}

func issuerKeyOperations(op adder) {
	op("IssuerKeys_List", "GET /sandpool/issuer/keys", "Lists the keys that sign tokens.").
		gives(200, api.IssuerKeys{})
	op("IssuerKeys_Create", "POST /sandpool/issuer/keys", "Makes the next key that signs tokens.").
		takes(api.IssuerKeyRequest{}).gives(201, api.IssuerKeys{}).fails(409)
}

func issuerOperations(op adder) {
	text := object{"type": "string"}
	op("Issuer_Endpoints", "GET /metadata/endpoints", "Describes the server as a cloud.").
		public().query(version).givesAs(200, "application/json", object{"type": "object",
		"required": []string{"resourceManager", "authentication"}})
	op("Issuer_Keys", "GET /adfs/discovery/keys", "Lists the keys that verify tokens.").
		public().givesAs(200, "application/json", object{"type": "object",
		"required": []string{"keys"}})
	token := object{"type": "object", "required": []string{"access_token", "token_type",
		"expires_in"}, "properties": object{"access_token": text, "token_type": text,
		"expires_in": object{"type": []string{"integer", "string"}},
		"expires_on": text, "resource": text}}
	op("Issuer_Identity", "GET /metadata/identity/oauth2/token", "Gives a managed identity's token.").
		public().query("resource", "client_id", version).
		givesAs(200, "application/json", token)
	form := object{"type": "object", "required": []string{"grant_type", "client_id"},
		"properties": object{"grant_type": object{"enum": []string{"client_credentials",
			"urn:ietf:params:oauth:grant-type:device_code", "device_code"}}, "client_id": text,
			"client_secret": text, "scope": text, "resource": text, "device_code": text,
			"code": text}}
	for id, path := range map[string]string{"Issuer_Token": "oauth2/token",
		"Issuer_TokenV2": "oauth2/v2.0/token"} {
		op(id, "POST /{authority}/"+path, "Gives a token for client credentials or a device code.").
			public().query("client-request-id").takesAs("application/x-www-form-urlencoded", form).
			givesAs(200, "application/json", token)
	}
	device := object{"type": "object", "required": []string{"client_id"}, "properties": object{
		"client_id": text, "scope": text, "resource": text, "lifetime": text}}
	for id, path := range map[string]string{"Issuer_Device": "oauth2/devicecode",
		"Issuer_DeviceV2": "oauth2/v2.0/devicecode"} {
		op(id, "POST /{authority}/"+path, "Gives a code by which a program signs in.").
			public().takesAs("application/x-www-form-urlencoded", device).
			gives(200, api.DeviceCode{})
	}
	for id, path := range map[string]string{"Issuer_Discovery": "",
		"Issuer_DiscoveryV2": "v2.0/"} {
		op(id, "GET /{authority}/"+path+".well-known/openid-configuration",
			"Describes the issuer, as OpenID Connect has it.").
			public().givesAs(200, "application/json", object{"type": "object",
			"required": []string{"issuer", "token_endpoint", "jwks_uri"}})
	}
}

func serverOperations(op adder) {
	text := object{"type": "string"}
	op("Server_Metrics", "GET /metrics", "Gives metrics for Prometheus.").
		givesAs(200, "text/plain", text)
	op("Server_Health", "GET /healthz", "Says that the server serves.").public().
		givesAs(200, "text/plain", text)
	op("Server_Description", "GET /openapi.json", "Gives this description.").public().
		givesAs(200, "application/json", object{"type": "object"}).is(304)
	op("Server_Reference", "GET /openapi", "Shows this description to people.").public().
		givesAs(200, "text/html", text).is(304)
}
