package proxy

// tunnelHelp tells how a tunnel is opened.
const tunnelHelp = "GET .management/tunnel with Upgrade: tcp or websocket"
