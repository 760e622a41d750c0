// An HTTP server of Node's own as a function. PORT is the port of upstream_url.
const http = require("node:http");

const server = http.createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    response.setHeader("Content-Type", "text/plain");
    response.end(`Node: ${request.method} ${request.url} ${Buffer.concat(chunks)}\n`);
  });
});

server.listen(Number(process.env.PORT), () => console.log("listening"));

// what is in flight is answered before the process ends
process.on("SIGTERM", () => server.close(() => process.exit(0)));
