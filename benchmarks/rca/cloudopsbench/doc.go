// Package cloudopsbench reads Cloud-OpsBench (arXiv 2603.00468): snapshots of a
// cluster with a fault, as kubectl and systemctl printed them, with Event objects and
// container logs. It turns each into the records that Tapio's receivers would have
// sent: the events of tapio_kubernetes as internal/event documents them, those of
// tapio_systemd, metrics of the kubelet and of servers, and plain log records. The
// translation knows no labels: each record
// says what an object, or a comparison of objects, shows in any cluster. What kubectl
// describe does not print is unknown here too: node affinities, messages of container
// states, and what a claim asks for.
//
// Not used are alerts.json.gz (the analysis of the data set's authors) and the probes in
// k8s_state.json.gz.
//
// causes maps the patterns of the library to the data set's names of causes.
package cloudopsbench
