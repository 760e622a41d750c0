// An HTTP server as a function. It listens where upstream_url says: at a TCP port, a Unix socket or an inherited one.
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
	listener, err := listen()
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %s", listener.Addr())
	log.Fatal(http.Serve(listener, http.HandlerFunc(answer)))
}

func listen() (net.Listener, error) {
	if os.Getenv("LISTEN_FDS") == "1" { // upstream_url: inherited
		return net.FileListener(os.NewFile(3, "http"))
	}
	if path := os.Getenv("SOCKET"); path != "" { // upstream_url: unix
		return net.Listen("unix", path)
	}
	return net.Listen("tcp", ":"+os.Getenv("PORT")) // upstream_url: http://127.0.0.1:PORT
}

func answer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "Go: %s %s %s\n", r.Method, r.URL, body)
}
