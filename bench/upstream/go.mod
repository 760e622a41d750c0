module rescoldo/bench/upstream

go 1.21
