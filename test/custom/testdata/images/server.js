// What a Node application is made of: a server, a counter, and the body of a request.
let count = 0;
require("http").createServer((request, answer) => {
  if (request.url.startsWith("/count")) return answer.end(`${++count}\n`);
  if (request.url.startsWith("/sum")) {
    let sum = 0;
    request.on("data", piece => { for (const byte of piece) sum = (sum + byte) % 65536; });
    request.on("end", () => answer.end(`${sum}\n`));
    return;
  }
  answer.statusCode = 404;
  answer.end();
}).listen(8080, () => console.log("node listens"));
