// Package scenario makes failures with a known cause: the telemetry of an invented
// microservice system on Kubernetes, of 10 to 1000 services, in which something
// breaks. It is simulated request by request: a fault changes what pods and nodes do,
// and everything else (errors of callers, refused connections, metrics, events of
// the kernel and of Kubernetes) follows from that.
//
// There are also services that work without being asked: they log, and no request
// shows how they are. Some services are run by systemd, and not by Kubernetes.
//
// By default the failures are those of which each works in its own way (faults=core);
// faults=all adds those that look alike to users and differ in who says what is wrong:
// the application, Kubernetes, metrics or the agent of a node.
//
// Noise, missing layers, skewed clocks and lost data are options. The same options
// make the same telemetry.
//
// The faults are those of kinds; what they do to the telemetry was written after
// what such failures look like, not after what the engine looks for. accepted says by
// which patterns of the library each is named rightly; every pattern is in it, or in
// unreached with the reason.
package scenario
