// Package gauge judges resource metrics: CPU, memory, disk, network, pools, garbage
// collection, queues. It says which resource of whom changed against its own past
// or its peers or is at its limit (an Anomaly), and which will reach its limit
// soon when it goes on like this (a Prediction).
//
// The steps are decode (pmetric -> Point, the only one that knows pdata), Observe
// (Point -> series) and Judge (series -> Report). What a metric means is one row of
// a table (Rule), which users extend. Time is that of the data points: nothing here
// reads a clock.
package gauge
