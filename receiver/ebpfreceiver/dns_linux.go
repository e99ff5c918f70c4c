//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
)

const (
	kindDNS       = bpf.ProcessRecordKind(bpf.NetworkNetworkKindTAPIO_DNS)
	kindUDPListen = bpf.ProcessRecordKind(bpf.DNSUdpKindTAPIO_UDP_LISTEN)
)

// dnsMaps are what the programs of the object have in common, and those of the
// object of sockets, whose header it includes.
var dnsMaps = append(slices.Clone(networkMaps), bpf.DNSMapDnsQueries, bpf.DNSMapDnsOutcomes, bpf.DNSMapUdpServers,
	bpf.DNSMapDnsTruncated, bpf.DNSMapDnsConnections)

// dnsPrograms see the questions first, then the answers.
func dnsPrograms(cfg *Config) []program {
	slow := func(spec *ebpf.CollectionSpec, _ *features) error {
		return spec.Variables[bpf.DNSVarDnsSlow].Set(uint64(cfg.Programs.Network.SlowDNS))
	}
	hasLength := func(f *features) bool { return f.hasSocketLength }
	return []program{
		{name: bpf.DNSProgDnsAsk, load: bpf.LoadDNS, sharesMaps: dnsMaps},
		{
			name: bpf.DNSProgDnsAnswer, load: bpf.LoadDNS, sharesMaps: dnsMaps, configure: slow,
			attached: func(k *kernel, p *runningProgram) { k.pollers = append(k.pollers, newLookups(p.collection, cfg)) },
		},
		{name: bpf.DNSProgDnsStreamSend, load: bpf.LoadDNS, sharesMaps: dnsMaps, needed: hasLength},
		{name: bpf.DNSProgDnsStreamReceive, load: bpf.LoadDNS, sharesMaps: dnsMaps, configure: slow, needed: hasLength},
		{
			name: bpf.DNSProgDnsStreamCalls, load: bpf.LoadDNS, sharesMaps: dnsMaps, configure: slow,
			needed: func(f *features) bool { return !f.hasSocketLength },
		},
		{name: bpf.DNSProgUdpListen, load: bpf.LoadDNS, sharesMaps: dnsMaps},
	}
}

func decodeUDPListen(r *bpf.DNSUdpListenRecord, known *knownProcesses) kernelEvent {
	return udpListenEvent{
		base:   networkBase(r.Header.Time, (*bpf.NetworkProcessId)(&r.Process), (*bpf.NetworkCgroupPath)(&r.Cgroup), known),
		socket: decodeEndpoints((*bpf.NetworkEndpoints)(&r.Socket)),
	}
}

// lookups reads what the kernel counts of DNS, and finds the questions that nobody
// answered.
type lookups struct {
	queries, outcomes, paths *ebpf.Map
	tallies                  *lookupTallies
	unanswered               map[lookupKey]uint64
	leftOut                  atomic.Int64
}

func newLookups(c *ebpf.Collection, cfg *Config) *lookups {
	return &lookups{
		queries: c.Maps[bpf.DNSMapDnsQueries], outcomes: c.Maps[bpf.DNSMapDnsOutcomes], paths: c.Maps[bpf.DNSMapPaths],
		tallies: newLookupTallies(cfg.SampleInterval), unanswered: map[lookupKey]uint64{},
	}
}

func (l *lookups) left() map[string]int64 { return map[string]int64{event.DNSFailed: l.leftOut.Load()} }

func (l *lookups) poll() []kernelEvent { return l.read(time.Now(), 0) }

func (l *lookups) last() []kernelEvent { return l.read(time.Now(), l.tallies.interval) }

// read returns the events that it is time for, and for which it will be after that long.
func (l *lookups) read(now time.Time, early time.Duration) []kernelEvent {
	boot := bootNow()
	idle := lookupIdle
	if n := l.readOutcomes(boot, now); n > int(l.outcomes.MaxEntries())*3/4 {
		idle = lookupIdleCrowded
	}
	l.readQueries(boot, now)
	events, left := l.tallies.due(now.Add(early))
	l.leftOut.Add(int64(left))
	for _, key := range l.tallies.idle(now, idle) {
		delete(l.unanswered, key)
		// Gone already is as good.
		_ = l.outcomes.Delete(bpf.DNSDnsEndKey{Start: key.start, Hash: key.hash, Pid: key.pid, Code: key.code})
	}
	out := make([]kernelEvent, len(events))
	for i, ev := range events {
		out[i] = ev
	}
	return out
}

// readOutcomes reads how questions ended that were answered, and returns how many
// counts there are.
func (l *lookups) readOutcomes(boot uint64, now time.Time) (entries int) {
	var key bpf.DNSDnsEndKey
	var value bpf.DNSDnsOutcome
	for all := l.outcomes.Iterate(); all.Next(&key, &value); entries++ {
		failed := value.Lookups - min(value.Resolved, value.Lookups)
		if value.Until != 0 && boot <= value.Until && failed > 0 {
			failed-- // the resolver may still find it
		}
		of := lookupKey{key.Start, key.Hash, key.Pid, key.Code}
		if failed == l.tallies.total(of) {
			continue
		}
		if ev, ok := l.event(&value, key.Code); ok {
			l.tallies.count(of, failed, ev, now)
		}
	}
	return entries
}

func (l *lookups) event(o *bpf.DNSDnsOutcome, code uint32) (lookupEvent, bool) {
	question, ok := questionName(o.Question.Name[:])
	ev := lookupEvent{
		base: l.base(o.Last, &o.Process), code: code, question: question,
		server: mapped(o.Server, o.ServerPort), netns: o.Netns, isTCP: o.Tcp != 0, longest: time.Duration(o.Longest),
	}
	for _, number := range o.Types {
		if number != 0 {
			ev.types = append(ev.types, recordType(number))
		}
	}
	slices.Sort(ev.types)
	return ev, ok
}

// readQueries takes the questions that were not answered in time.
func (l *lookups) readQueries(boot uint64, now time.Time) {
	var key bpf.DNSDnsKey
	var value bpf.DNSDnsQuery
	var late []bpf.DNSDnsKey
	for all := l.queries.Iterate(); all.Next(&key, &value); {
		if isLate(&value, boot) {
			late = append(late, key)
		}
	}
	for _, key := range late {
		// Between looking and taking it may have been answered, and asked anew.
		if l.queries.Lookup(key, &value) != nil || !isLate(&value, boot) || l.queries.Delete(key) != nil {
			continue
		}
		l.countUnanswered(&value, now)
	}
}

func isLate(q *bpf.DNSDnsQuery, boot uint64) bool {
	return boot > q.Sent && boot-q.Sent >= uint64(answerTimeout)
}

func (l *lookups) countUnanswered(q *bpf.DNSDnsQuery, now time.Time) {
	key := lookupKey{q.Process.Start, q.Question.Hash, q.Process.Pid, dnsEndTimeout}
	if _, known := l.unanswered[key]; !known && len(l.unanswered) >= maxUnanswered {
		l.leftOut.Add(1)
		return
	}
	question, ok := questionName(q.Question.Name[:])
	if !ok {
		return
	}
	l.unanswered[key]++
	ev := lookupEvent{
		base: l.base(q.Sent+uint64(answerTimeout), &q.Process), code: dnsEndTimeout, question: question,
		types: []string{recordType(q.Question.Type)}, server: mapped(q.Server, q.ServerPort), netns: q.Netns, isTCP: q.Tcp != 0, longest: answerTimeout,
	}
	if tally := l.tallies.all[key]; tally != nil && tally.total > tally.told {
		ev.types = withType(tally.latest.types, ev.types[0])
	}
	l.tallies.count(key, l.unanswered[key], ev, now)
}

func (l *lookups) base(at uint64, p *bpf.DNSProcessId) base {
	var cgroup bpf.NetworkCgroupPath
	if l.paths.Lookup(p.CgroupId, &cgroup) != nil {
		cgroup.Partial = 1
	}
	return networkBase(at, (*bpf.NetworkProcessId)(p), &cgroup, nil)
}
