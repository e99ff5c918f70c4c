package operation

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	poolExhausted = `{"code":999,"msg":"failed to allocate for range 0: no IP addresses available in range set: 10.1.0.2-10.1.0.2"}`
	cbr0          = `{"cniVersion":"1.0.0","name":"cbr0"}`
)

func TestStories(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		tell func(*story)
		want string
	}{
		"a chain with ipam is one operation": {func(s *story) {
			s.start(1, runtime, "bridge").start(2, 1, "host-local").exits(2, 0).exits(1, 0).
				start(3, runtime, "portmap").exits(3, 0).wait(settle + ms).tick()
		}, "ADD ok\n  bridge ADD ok\n    host-local ADD ok\n  portmap ADD ok\n"},
		"nothing is told before it is over": {func(s *story) {
			s.start(1, runtime, "bridge").tick().exits(1, 0).wait(settle - 10*ms).tick()
		}, ""},
		"a failure is over at once": {func(s *story) {
			s.start(1, runtime, "bridge").start(2, 1, "host-local").writes(2, poolExhausted).exits(2, 1).writes(1, poolExhausted).exits(1, 1)
		}, "ADD failed\n  bridge ADD address_pool_exhausted\n    host-local ADD address_pool_exhausted\n"},
		"what cleans up is no origin": {func(s *story) {
			s.start(1, runtime, "bridge").start(2, 1, "host-local").exits(2, 0).
				start(3, 1, "host-local", "CNI_COMMAND=DEL").exits(3, 1).writes(1, `{"code":999,"msg":"boom"}`).exits(1, 1)
		}, "ADD failed\n  bridge ADD plugin_failed\n    host-local ADD ok\n    host-local DEL plugin_failed\n"},
		"the second plugin of a chain fails": {func(s *story) {
			s.start(1, runtime, "bridge").exits(1, 0).start(2, runtime, "portmap").writes(2, `{"code":7,"msg":"bad"}`).exits(2, 1)
		}, "ADD failed\n  bridge ADD ok\n  portmap ADD invalid_network_config\n"},
		"ADD and then DEL are two": {func(s *story) {
			s.start(1, runtime, "bridge").exits(1, 1).start(2, runtime, "bridge", "CNI_COMMAND=DEL").exits(2, 0).wait(settle + ms).tick()
		}, "ADD failed\n  bridge ADD plugin_failed\nDEL ok\n  bridge DEL ok\n"},
		"another interface is another operation": {func(s *story) {
			s.start(1, runtime, "loopback", "CNI_IFNAME=lo").start(2, runtime, "bridge").exits(1, 0).exits(2, 0).wait(settle + ms).tick()
		}, "ADD ok\n  loopback ADD ok\nADD ok\n  bridge ADD ok\n"},
		"the same again by another process is another operation": {func(s *story) {
			s.start(1, 101, "bridge").exits(1, 0).start(2, 102, "bridge").exits(2, 1)
		}, "ADD ok\n  bridge ADD ok\nADD failed\n  bridge ADD plugin_failed\n"},
		"the same again by the same process is another operation": {func(s *story) {
			s.start(1, runtime, "bridge").exits(1, 0).start(2, runtime, "portmap").exits(2, 0).start(3, runtime, "bridge").exits(3, 1)
		}, "ADD ok\n  bridge ADD ok\n  portmap ADD ok\nADD failed\n  bridge ADD plugin_failed\n"},
		"another network is another operation": {func(s *story) {
			const gc, none = "CNI_COMMAND=GC", "CNI_CONTAINERID="
			s.start(1, runtime, "bridge", gc, none).reads(1, cbr0).exits(1, 0).start(2, runtime, "portmap", gc, none).reads(2, cbr0).exits(2, 0).
				start(3, runtime, "macvlan", gc, none).moves(3, Stdin, 0, `{"name":"ot`, false).moves(3, Stdin, 11, `her"}`, false).exits(3, 0).
				start(4, runtime, "tuning", gc, none).reads(4, `{"name":"other"}`).writes(4, `{"code":7,"msg":"bad"}`).exits(4, 1).
				start(5, runtime, "ipvlan", gc, none).reads(5, cbr0).exits(5, 0).wait(settle + ms).tick()
		}, "GC ok\n  bridge GC ok\n  portmap GC ok\nGC failed\n  macvlan GC ok\n  tuning GC invalid_network_config\nGC ok\n  ipvlan GC ok\n"},
		"a daemon's delegates of other networks belong to the shim that waits": {func(s *story) {
			s.start(1, runtime, "multus-shim").reads(1, `{"name":"multus"}`).start(2, 55, "bridge").reads(2, cbr0).exits(2, 0).exits(1, 0).wait(settle + ms).tick()
		}, "ADD ok\n  multus-shim ADD ok\n  bridge ADD ok\n"},
		"a daemon's delegates belong to the shim that waits": {func(s *story) {
			s.start(1, runtime, "multus-shim").start(2, 55, "bridge").exits(2, 0).exits(1, 0).wait(settle + ms).tick()
		}, "ADD ok\n  multus-shim ADD ok\n  bridge ADD ok\n"},
		"after a pause it is another operation": {func(s *story) {
			s.start(1, runtime, "bridge").exits(1, 0).wait(settle+ms).start(2, runtime, "bridge").exits(2, 0).wait(settle + ms).tick()
		}, "ADD ok\n  bridge ADD ok\nADD ok\n  bridge ADD ok\n"},
		"called by a relative path": {func(s *story) {
			s.startIn("/opt/cni/bin", 1, runtime, "./bridge").startIn("/opt", 2, 1, "cni/bin/../bin/host-local").exits(2, 0).exits(1, 1)
		}, "ADD failed\n  bridge ADD plugin_failed\n    host-local ADD ok\n"},
		"found in a relative CNI_PATH": {func(s *story) {
			s.startIn("/opt/cni", 1, runtime, "bin/bridge", "CNI_PATH=bin").exits(1, 1)
		}, "ADD failed\n  bridge ADD plugin_failed\n"},
		"the directory is a link": {func(s *story) {
			s.start(1, runtime, "/opt/plugins/bridge").start(2, 1, "/snap/cni/host-local").exits(2, 0).exits(1, 1).
				start(3, runtime, "/usr/lib/cni/dhcp", "CNI_PATH=/snap/cni").exits(3, 1)
		}, "ADD failed\n  bridge ADD plugin_failed\n    host-local ADD ok\nADD failed\n  dhcp ADD plugin_failed\n"},
		"the plugin is called by a link": {func(s *story) {
			s.startIn("/usr/local", 1, runtime, "bin/br").exits(1, 1)
		}, "ADD failed\n  bridge ADD plugin_failed\n"},
		"a relative path from nowhere is none": {func(s *story) {
			s.start(1, runtime, "./bridge").exits(1, 1).startIn("/tmp", 2, runtime, "./bridge").exits(2, 1).start(3, runtime, "/dev/fd/5").exits(3, 1)
		}, ""},
		"helpers of plugins are none": {func(s *story) {
			s.start(1, runtime, "portmap").start(2, 1, "/usr/sbin/iptables").exits(2, 1).exits(1, 0).wait(settle + ms).tick()
		}, "ADD ok\n  portmap ADD ok\n"},
		"VERSION and unknown commands are none": {func(s *story) {
			s.start(1, runtime, "bridge", "CNI_COMMAND=VERSION").exits(1, 0).start(2, runtime, "bridge", "CNI_COMMAND=RM -RF").exits(2, 0).wait(settle + ms).tick()
		}, ""},
		"without CNI_PATH the children are helpers": {func(s *story) {
			s.start(1, runtime, "/x/bridge", "CNI_PATH=").start(2, 1, "/x/ip", "CNI_PATH=").exits(2, 0).exits(1, 0).wait(settle + ms).tick()
		}, "ADD ok\n  bridge ADD ok\n"},
		"a wrapper that becomes another program is one call": {func(s *story) {
			s.start(1, runtime, "wrapper.sh").start(1, runtime, "bridge").exits(1, 0).wait(settle + ms).tick()
		}, "ADD ok\n  wrapper.sh ADD ok\n"},
		"a killed plugin": {func(s *story) {
			s.start(1, runtime, "bridge").ends(1, 9)
		}, "ADD failed\n  bridge ADD killed\n"},
		"a plugin that does not end": {func(s *story) {
			s.start(1, runtime, "bridge").wait(patience + ms).tick().wait(patience).tick()
		}, "ADD running\n  bridge ADD unfinished\n"},
		"a plugin that ends late": {func(s *story) {
			s.start(1, runtime, "bridge").start(2, 1, "host-local").wait(patience+ms).tick().exits(2, 0).ends(1, 9)
		}, "ADD failed\n  bridge ADD killed\n    host-local ADD ok\n"},
		"a plugin that succeeds late": {func(s *story) {
			s.start(1, runtime, "bridge").wait(patience+ms).tick().exits(1, 0).wait(settle + ms).tick()
		}, "ADD ok\n  bridge ADD ok\n"},
		"a plugin that never ends": {func(s *story) {
			s.start(1, runtime, "bridge").wait(patience + ms).tick().wait(giveUpAfter).tick()
		}, "ADD unfinished\n  bridge ADD unfinished\n"},
		"another try beside one that is stuck": {func(s *story) {
			s.start(1, runtime, "bridge").wait(patience+ms).tick().start(2, 101, "bridge").exits(2, 1)
		}, "ADD running\n  bridge ADD unfinished\nADD failed\n  bridge ADD plugin_failed\n"},
		"a lost exit": {func(s *story) {
			s.start(1, runtime, "bridge")
			again := Exec{At: s.now, ID: ID{PID: 1, Start: 77}, Parent: runtime, Path: "/opt/cni/bin/bridge", Env: []byte("CNI_COMMAND=DEL\x00CNI_PATH=/opt/cni/bin\x00")}
			s.done = append(s.done, s.Add(again)...)
		}, "ADD unfinished\n  bridge ADD unfinished\n"},
		"what ends after its operation is gone": {func(s *story) {
			s.exits(5, 0).writes(5, "{}")
		}, ""},
		"at the end": {func(s *story) {
			s.start(1, runtime, "bridge").exits(1, 0).start(2, runtime, "dhcp", "CNI_IFNAME=eth1")
			s.done = append(s.done, s.Flush(s.now)...)
		}, "ADD ok\n  bridge ADD ok\nADD unfinished\n  dhcp ADD unfinished\n"},
		"STATUS has no container": {func(s *story) {
			s.start(1, runtime, "bridge", "CNI_COMMAND=STATUS", "CNI_CONTAINERID=").writes(1, `{"code":50,"msg":"agent down"}`).exits(1, 1)
		}, "STATUS failed\n  bridge STATUS plugin_not_available\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStory()
			tc.tell(s)
			assert.Equal(t, tc.want, tree(s.done))
		})
	}
}

func TestOperationOfOneNetworkEndsBeforeThatOfTheNext(t *testing.T) {
	t.Parallel()
	s := newStory()
	s.start(1, runtime, "bridge").reads(1, cbr0).exits(1, 0)
	end := s.now
	s.start(2, runtime, "macvlan")
	begin := s.now
	s.reads(2, `{"name":"other"}`)
	require.Len(t, s.done, 1)
	assert.Equal(t, end, s.done[0].End())
	assert.Equal(t, 1, s.Held())
	s.exits(2, 0).wait(settle + ms).tick()
	require.Len(t, s.done, 2)
	assert.Equal(t, begin, s.done[1].Start())
	assert.Equal(t, "other", s.done[1].Network())
	assert.Zero(t, s.Held())
}

func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	s := newStory()
	for i := range uint32(200) {
		sandbox := fmt.Sprintf("CNI_CONTAINERID=c%d", i)
		for j, command := range []string{"CNI_COMMAND=ADD", "CNI_COMMAND=DEL"} {
			pid := i*10 + uint32(j)*5 + 1000
			s.start(pid, runtime, "bridge", sandbox, command).start(pid+1, pid, "host-local", sandbox, command).
				exits(pid+1, 0).exits(pid, 0).start(pid+2, runtime, "portmap", sandbox, command).exits(pid+2, 0)
		}
	}
	s.wait(settle + ms).tick()
	assert.Len(t, s.done, 400)
	assert.Zero(t, s.Held())
	assert.Empty(t, s.live)
	assert.Empty(t, s.joins)
	assert.Empty(t, s.open)
	assert.Equal(t, Counts{Operations: 400}, s.Counts())
}

func TestBounds(t *testing.T) {
	t.Parallel()
	t.Run("calls that never end", func(t *testing.T) {
		t.Parallel()
		s := newStory()
		for i := range uint32(3 * maxCalls) {
			s.start(i+1000, runtime, "bridge", fmt.Sprintf("CNI_CONTAINERID=c%d", i))
			require.LessOrEqual(t, s.Held(), maxCalls)
			require.LessOrEqual(t, len(s.live), maxCalls)
		}
		assert.Len(t, s.done, 2*maxCalls)
		assert.EqualValues(t, 2*maxCalls, s.Counts().Unfinished)
		assert.False(t, s.done[0].IsStuck, "making room is no failure of the plugin")
	})
	t.Run("calls of one operation", func(t *testing.T) {
		t.Parallel()
		s := newStory().start(1, runtime, "bridge")
		for i := range uint32(1000) {
			s.start(i+1000, 1, "host-local").start(i+10000, runtime, "portmap")
		}
		assert.Equal(t, maxCallsEach, s.Held())
		assert.EqualValues(t, 2000+1-maxCallsEach, s.Counts().Overflow)
	})
	t.Run("streams", func(t *testing.T) {
		t.Parallel()
		s := newStory().start(1, runtime, "bridge")
		for i := range 100 {
			s.moves(1, Stdin, i*1024, string(make([]byte, 1024)), false)
		}
		assert.Len(t, s.live[1].input.bytes, maxStream)
	})
}

func TestStreams(t *testing.T) {
	t.Parallel()
	t.Run("in pieces", func(t *testing.T) {
		t.Parallel()
		s := newStory().start(1, runtime, "bridge").reads(1, cbr0[:20]).moves(1, Stdin, 20, cbr0[20:], false).
			writes(1, poolExhausted[:40]).moves(1, Stdout, 40, poolExhausted[40:], false).exits(1, 1)
		require.Len(t, s.done, 1)
		assert.Equal(t, "cbr0", s.done[0].Network())
		assert.Contains(t, s.done[0].Failed().Failure.Message, "no IP addresses available in range set")
		assert.Zero(t, s.Counts().Silent)
		assert.Empty(t, s.done[0].Calls[0].input.bytes, "a configuration is not held longer than needed")
	})
	t.Run("with a gap", func(t *testing.T) {
		t.Parallel()
		s := newStory().start(1, runtime, "bridge").moves(1, Stdout, 1024, poolExhausted, false).exits(1, 1)
		require.Len(t, s.done, 1)
		assert.False(t, s.done[0].Failed().HasFailure)
		assert.Equal(t, "exit code 1", s.done[0].Failed().Reason())
		assert.EqualValues(t, 1, s.Counts().Silent)
	})
	t.Run("of a process of before", func(t *testing.T) {
		t.Parallel()
		s := newStory().start(1, runtime, "bridge")
		s.Add(Data{ID: ID{PID: 1, Start: 5}, Stream: Stdout, Bytes: []byte(poolExhausted)})
		s.Add(Exit{ID: ID{PID: 1, Start: 5}, Status: 0x100})
		assert.Equal(t, 1, s.Held())
		assert.Empty(t, s.live[1].output.bytes)
	})
}
