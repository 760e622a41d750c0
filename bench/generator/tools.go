//go:build tools

// Pins the load generator of the benchmarks, which is built unmodified.
package generator

import _ "github.com/tsenart/vegeta/v12"
