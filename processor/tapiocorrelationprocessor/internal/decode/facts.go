package decode

import (
	"strings"
	"time"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

// The beginnings of the names of events that tell who is who.
const (
	unitEvents    = "tapio.systemd.unit."
	networkEvents = "tapio.cni."
)

// learn tells the graph what an event says of who is who, and returns to whom it
// happened: the resource's entity or, of an event about a container network, that.
func (d *Decoder) learn(e *record.Detail, ref topology.Ref, at int64) record.EntityID {
	switch {
	case strings.HasPrefix(e.Name, unitEvents):
		d.mainProcess(e, ref, at)
	case strings.HasPrefix(e.Name, networkEvents):
		return d.network(e, ref, at)
	}
	return ref.Subject
}

// mainProcess learns whose main process a process is. Without its creation time a pid
// is that of whoever wrote the record.
func (d *Decoder) mainProcess(e *record.Detail, ref topology.Ref, at int64) {
	pid, _ := e.Attr(event.KeyProcessPID).(int64)
	text, _ := e.Attr(event.KeyProcessCreationTime).(string)
	if created, err := time.Parse(time.RFC3339Nano, text); err == nil {
		d.graph.Runs(ref.Workload, pid, created.UnixNano(), at)
	}
}

// network learns whose an address is. An event that names no pod is about the network.
func (d *Decoder) network(e *record.Detail, ref topology.Ref, at int64) record.EntityID {
	text := func(key string) string { s, _ := e.Attr(key).(string); return s }
	if ref.Subject == ref.Host {
		if n := d.graph.Network(ref.Host, text(event.KeyCNINetwork), at); n != 0 {
			return n
		}
		return ref.Subject
	}
	e.Other = d.otherPod(text, ref.Host, at)
	addresses, _ := e.Attr(event.KeyCNIAddresses).([]string)
	i := topology.Interface{Network: text(event.KeyCNINetwork), Addresses: addresses, HostInterface: text(event.KeyCNIHostInterface), Netns: text(event.KeyCNINetns)}
	switch e.Name {
	case event.CNIInterface:
		d.graph.Attached(ref.Network, i, at)
	case event.CNIInterfaceRemoved:
		d.graph.Detached(ref.Network, i, at)
	}
	return ref.Subject
}

// otherPod returns the pod or container that an event names beside its own, 0 for none.
func (d *Decoder) otherPod(text func(key string) string, host record.EntityID, at int64) record.EntityID {
	r := topology.Resource{
		Container: text(event.KeyCNIOtherContainerID), PodUID: text(event.KeyCNIOtherPodUID),
		PodName: text(event.KeyCNIOtherPodName), Namespace: text(event.KeyCNIOtherPodNamespace),
	}
	if r.Container == "" && r.PodUID == "" && r.PodName == "" {
		return 0
	}
	if h, ok := d.graph.Entity(host); ok {
		r.Host = h.Name
	}
	return d.graph.Resolve(&r, at).Subject
}
