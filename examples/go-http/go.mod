module rescoldo/examples/go-http

go 1.21
