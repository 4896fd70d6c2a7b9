package describe

import (
	"reflect"

	"github.com/sandpool/sandpool/api"
)

func sessionOperations(op adder) {
	at := func(method, path string) string { return method + " " + endpoint + "/" + path }
	const id = "identifier"
	op("Code_Execute", at("POST", "code/execute"), "Runs code, in the envelope of early versions.").
		query(version, id).takes(api.ExecuteRequest{}).gives(200, api.OldExecution{}).
		fails(404)
	op("Executions_Execute", at("POST", "executions"), "Runs code.").query(version, id).
		takes(api.ExecuteRequest{}).givesOne(200, api.Execution{}, api.ShellExecution{}).
		streams(api.ExecutionEvent{}).gives(202, api.PendingExecution{}).fails(404, 409)
	op("Legacy_Execute", at("POST", "execute"), "Runs code, on an early path.").
		query(version, id).takes(api.ExecuteRequest{}).gives(200, api.LegacyExecution{})
	op("Python_Execute", at("POST", "python/execute"), "Runs code, on the earliest path.").
		query(version, id).takes(api.ExecuteRequest{}).gives(200, api.LegacyExecution{})
	op("Executions_List", at("GET", "executions"), "Lists executions that go on by themselves.").
		query(version, id).gives(200, api.PendingExecutions{})
	op("Executions_Get", at("GET", "executions/{execution}"),
		"Reads an execution, or follows its events.").query(version, id, "after").
		givesOne(200, api.Execution{}, api.ShellExecution{}, api.PendingExecution{}).
		streams(api.ExecutionEvent{}).fails(404)
	op("Executions_Cancel", at("DELETE", "executions/{execution}"), "Ends an execution.").
		query(version, id).gives(200, api.PendingExecution{}).fails(404)
	fileOperations(op, at)
	op("Session_Get", at("GET", "session"), "Reads a session, and makes none.").
		query(version, id).gives(200, api.SessionView{})
	op("Session_Delete", at("DELETE", "session"), "Ends a session.").query(version, id).is(204)
	op("Sessions_List", at("GET", "listSessions"), "Lists sessions.").
		query(version, id, "skip", "limit").gives(200, api.Sessions{})
	op("Metadata_Get", at("GET", "metadata"), "Says what code of the pool finds.").query(version).
		gives(200, api.Metadata{}).fails(404)
	for _, method := range []string{"GET", "POST"} {
		op("Management_Session_"+method, at(method, ".management/getSession"), "Reads a session.").
			query(version, id).gives(200, api.SessionView{})
		op("Management_Sessions_"+method, at(method, ".management/listSessions"),
			"Lists sessions.").query(version, id, "skip", "limit").gives(200, api.ManagedSessions{})
		op("Management_Stop_"+method, at(method, ".management/stopSession"), "Ends a session.").
			query(version, id).givesAs(200, "text/plain", object{"type": "string"})
	}
	op("Management_Detail", at("GET", ".management/session"),
		"Reads a session with all that is known of it.").query(version, id).
		gives(200, api.SessionDetail{})
	op("Management_History", at("GET", ".management/history"),
		"Reads what sessions ran, of a pool that keeps it.").query(version, id, "after").
		gives(200, api.SessionHistory{}).fails(409)
	op("Management_ForgetHistory", at("DELETE", ".management/history"),
		"Forgets what sessions ran.").query(version, id).is(204).fails(409)
	op("Management_Logs", at("GET", ".management/logs"),
		"Reads or follows what a session's sandbox wrote.").
		query(version, id, "sandbox", "after", "follow").gives(200, api.LogLines{}).
		streams(api.LogLine{}).fails(404)
}

func fileOperations(op adder, at func(method, path string) string) {
	const id = "identifier"
	any := object{}
	old, upload := "python/", object{"type": "object", "properties": object{"file": object{
		"type": "string", "format": "binary"}}}
	for name, path := range map[string]string{"Files_UploadOld": "files/upload",
		"Python_Upload": old + "uploadFile"} {
		op(name, at("POST", path), "Stores files, on an early path.").query(version, id, "path").
			takesAs("multipart/form-data", upload).gives(200, api.OldFiles{})
	}
	op("Files_Upload", at("POST", "files"), "Stores a file.").query(version, id, "path").
		takesAs("multipart/form-data", upload).gives(200, api.File{}).fails(409, 413)
	op("Files_List", at("GET", "files"), "Lists files.").
		query(version, id, "path", "recursive", "pageSize", "skipToken").
		givesOne(200, api.Files{}, api.OldFiles{}).fails(404)
	op("Python_Files", at("GET", old+"files"), "Lists files, on an early path.").
		query(version, id, "path").gives(200, api.OldFiles{})
	op("Python_Download", at("GET", old+"downloadFile"), "Reads a file, on an early path.").
		query(version, id, "path", "filename").givesAs(200, "*/*", any)
	for name, path := range map[string]string{"Files_ContentOld": "files/content/{file}",
		"Files_Content": "files/{file}/content"} {
		op(name, at("GET", path), "Reads a file's content.").query(version, id, "path").
			givesAs(200, "*/*", any).givesAs(206, "*/*", any).is(416).fails(404)
	}
	op("Files_Put", at("PUT", "files/{file}/content"), "Stores a file, whole or not at all.").
		query(version, id, "path").takesAs("*/*", any).gives(200, api.File{}).fails(413)
	op("Files_Patch", at("PATCH", "files/{file}/content"), "Writes at the end of a file.").
		query(version, id, "path", "offset").takesAs("*/*", any).gives(200, api.File{}).
		fails(409)
	op("Files_Change", at("POST", "files/{file}"), "Moves or copies a file, or makes a directory.").
		query(version, id, "path", "operation", "to", "overwrite").gives(200, api.File{}).
		fails(404, 409)
	op("Files_Get", at("GET", "files/{file}"), "Describes a file.").
		query(version, id, "path", "digest").givesOne(200, api.File{}, api.OldFiles{}).
		fails(404)
	op("Files_Delete", at("DELETE", "files/{file}"), "Deletes a file or a directory.").
		query(version, id, "path").gives(200, api.Message{}).is(204).fails(404)
	op("Files_Watch", at("GET", "watch"), "Tells what happens beneath a directory.").
		query(version, id, "path").streams(api.FileEvent{}).fails(404)
	op("Archive_Get", at("GET", "archive"), "Reads a directory as an archive.").
		query(version, id, "path", "format").givesAs(200, "application/x-tar", any).
		givesAs(200, "application/zip", any).fails(404)
	op("Archive_Put", at("PUT", "archive"), "Makes the files of an archive.").
		query(version, id, "path", "format").takesAs("application/x-tar", any).
		takesAs("application/zip", any).takesAs("*/*", any).gives(200, api.Unpacked{})
}

func insideOperations(op adder) {
	at := func(method, path string) string { return method + " " + endpoint + "/" + path }
	const id = "identifier"
	op("Kernels_List", at("GET", "kernels"), "Lists the kernels that code can name.").
		query(version, id).gives(200, api.Kernels{})
	op("Contexts_List", at("GET", "contexts"), "Lists the contexts of a session.").
		query(version, id).gives(200, api.Contexts{})
	const context, process, terminal = "contexts/{context}", "processes/{process}",
		"terminals/{terminal}"
	op("Contexts_Get", at("GET", context), "Reads a context.").query(version, id).
		gives(200, api.Context{}).fails(404)
	op("Contexts_Put", at("PUT", context), "Makes a context.").query(version, id).
		takes(api.ContextRequest{}).gives(200, api.Context{}).fails(409)
	op("Contexts_Delete", at("DELETE", context), "Ends a context.").query(version, id).is(204).
		fails(404)
	op("Contexts_Interrupt", at("POST", context+"/interrupt"), "Interrupts what runs there.").
		query(version, id).is(204).fails(404)
	op("Contexts_Restart", at("POST", context+"/restart"), "Gives a context a fresh kernel.").
		query(version, id).is(204).fails(404)
	op("Processes_Start", at("POST", "processes"), "Starts a process in the background.").
		query(version, id).takes(api.ProcessRequest{}).gives(201, api.Process{}).
		fails(409, 413)
	op("Processes_List", at("GET", "processes"), "Lists background processes.").
		query(version, id).gives(200, api.Processes{})
	op("Processes_Get", at("GET", process), "Reads a background process.").
		query(version, id, "wait").gives(200, api.Process{}).fails(404)
	op("Processes_Signal", at("POST", process+"/signal"), "Sends a background process a signal.").
		query(version, id, "signal").is(204)
	op("Processes_Logs", at("GET", process+"/logs"), "Reads or follows what a process puts out.").
		query(version, id, "after", "follow").streams(api.ProcessEvent{}).fails(404)
	op("Processes_Delete", at("DELETE", process), "Ends a background process.").
		query(version, id).is(204).fails(404)
	op("Terminals_List", at("GET", "terminals"), "Lists the terminals of a session.").
		query(version, id).gives(200, api.Terminals{})
	op("Terminals_View", at("GET", terminal), "Opens or views a terminal, over a WebSocket.").
		query(version, id, "columns", "rows").is(101)
	op("Terminals_End", at("DELETE", terminal), "Ends a terminal.").query(version, id).is(204).
		fails(404)
}

func customOperations(op adder) {
	whatever := object{}
	for _, method := range []string{"GET", "PUT", "POST", "DELETE", "PATCH"} {
		o := op("Container_"+method, method+" "+endpoint+"/{path}",
			"Forwards a request to the session's container, whose answer it is.").
			query("identifier", anything).takesAs("*/*", whatever)
		for _, class := range []string{"2XX", "3XX", "4XX", "5XX"} {
			o.answers[class] = object{"description": "What the container answers, or an error.",
				"content": object{"*/*": object{"schema": whatever}}}
		}
		if method == "GET" {
			o.is(101)
		}
	}
	op("Container_Tunnel", "GET "+endpoint+"/.management/tunnel",
		"Opens a tunnel to a port of the session's container, over a WebSocket.").
		query("identifier", "port").is(101).fails(502, 504)
}

func mcpOperations(op adder) {
	const at, media = endpoint + "/mcp", "application/json"
	text, whatever := object{"type": "string"}, object{}
	post := op("MCP_Post", "POST "+at, "Takes a message of JSON-RPC, or a batch of them.")
	message := post.schemas.named("McpMessage", "A message of JSON-RPC 2.0, as the Model Context "+
		"Protocol has it.", object{"type": "object", "required": []string{"jsonrpc"},
		"properties": object{"jsonrpc": object{"const": "2.0"},
			"id": object{"type": []string{"string", "integer", "null"}}, "method": text,
			"params": whatever, "result": whatever, "error": object{"type": "object",
				"required": []string{"code", "message"}, "properties": object{
					"code": object{"type": "integer"}, "message": text, "data": whatever}}}})
	several := object{"anyOf": []object{message, {"type": "array", "items": message}}}
	refused := object{"anyOf": []object{message, post.schemas.of(reflect.TypeFor[api.ErrorBody]())}}
	post.takesAs(media, several).givesAs(200, media, several).
		givesAs(200, "text/event-stream", message).is(202).givesAs(400, media, refused).
		givesAs(404, media, refused)
	op("MCP_End", "DELETE "+at, "Ends a session of the protocol.").is(204).
		givesAs(404, media, refused)
}
