// The reference upstream: a trivial HTTP server, on TCP for direct calls and on a Unix socket for the edge.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: upstream SOCKET")
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	unix, err := net.Listen("unix", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	// the edge has a uid of its own
	if err := os.Chmod(os.Args[1], 0o666); err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(answer)}
	fmt.Println(tcp.Addr().(*net.TCPAddr).Port)
	go func() { log.Fatal(server.Serve(unix)) }()
	log.Fatal(server.Serve(tcp))
}

func answer(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	io.WriteString(w, "upstream")
}
