// Node's own HTTP server as a function. PORT holds the port of upstream_url.
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

// finish the requests in flight, then exit
process.on("SIGTERM", () => server.close(() => process.exit(0)));
