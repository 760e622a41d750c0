//go:build tools

// The load generator of the benchmarks, pinned here and built as it is.
package generator

import _ "github.com/tsenart/vegeta/v12"
