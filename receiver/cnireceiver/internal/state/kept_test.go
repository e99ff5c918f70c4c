package state

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/netconf"
)

// keeper remembers what a decider told, as a receiver does.
type keeper map[string]Kept

func (k keeper) take(d *Decider) {
	told, over := d.Changed()
	for _, key := range over {
		delete(k, key)
	}
	for _, c := range told {
		k[c.Key] = c
	}
}

// restart gives the world another decider, which knows what the one before told, over
// JSON; change changes its settings.
func (w *world) restart(t *testing.T, kept keeper, change func(*Settings)) {
	t.Helper()
	kept.take(w.decider)
	var all, list []Kept
	for _, c := range kept {
		all = append(all, c)
	}
	data, err := json.Marshal(all)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &list))
	past := w.decider.Past()
	data, err = json.Marshal(past)
	require.NoError(t, err)
	var read Past
	require.NoError(t, json.Unmarshal(data, &read))
	require.True(t, read.Equal(past), "%+v, not %+v", read, past)
	settings := w.decider.settings
	if change != nil {
		change(&settings)
	}
	w.decider = NewDecider(settings)
	for _, key := range w.decider.Restore(read, list) {
		delete(kept, key)
	}
}

// problems are the events that are no facts.
func problems(events []Event) []Event {
	out := []Event{}
	for _, e := range events {
		if e.Name != event.CNIInterface && e.Name != event.CNIInterfaceRemoved {
			out = append(out, e)
		}
	}
	return out
}

// troubles are things that go wrong and last, one of each kind, and how each is mended.
var troubles = map[string]struct {
	begin, mend func(w *world)
}{
	"configuration invalid": {
		func(w *world) {
			w.Configs[0].Err, w.Configs[0].Network = &netconf.Error{Type: netconf.ErrorSyntax, Line: 1, Reason: "r"}, nil
		},
		func(w *world) { w.Configs[0].Err, w.Configs[0].Network = nil, newWorld().Configs[0].Network },
	},
	"configuration missing": {
		func(w *world) { w.saved, w.Configs = w.Configs, nil },
		func(w *world) { w.Configs = w.saved },
	},
	"plugin missing": {
		func(w *world) { w.Plugins["bridge"], w.Plugins["host-local"] = nil, nil },
		func(w *world) { w.Plugins = newWorld().Plugins },
	},
	"pool exhausted": {
		func(w *world) {
			for n := 3; n <= 30; n++ {
				w.reserve(n)
			}
		},
		func(w *world) { w.Reservations = w.Reservations[:1] },
	},
	"namespace leaked": {
		func(w *world) { w.pod(1).HasProcess = false; w.Containers = map[string]bool{} },
		func(w *world) { w.pod(1).HasProcess = true; w.Containers["c1"] = true },
	},
	"pod's interface down": {
		func(w *world) { w.eth0(1).Up = false },
		func(w *world) { w.eth0(1).Up = true },
	},
	"MTU": {
		func(w *world) { w.eth0(1).MTU = 9000 },
		func(w *world) { w.eth0(1).MTU = 1500 },
	},
	"route of the pod missing": {
		func(w *world) { w.pod(1).Routes = nil },
		func(w *world) { w.pod(1).Routes = defaultRoutes() },
	},
	"route of the host missing": {
		func(w *world) { w.HostRoutes[netip.MustParseAddr("10.0.0.2")] = 0 },
		func(w *world) { w.HostRoutes[netip.MustParseAddr("10.0.0.2")] = 2 },
	},
	"address missing": {
		func(w *world) { w.eth0(1).Addresses = nil },
		func(w *world) { w.eth0(1).Addresses = addresses("10.0.0.2/27") },
	},
	"uplink gone": {
		func(w *world) { w.uplink = w.Namespaces[0].Links[0]; w.Namespaces[0].Links = w.Namespaces[0].Links[1:] },
		func(w *world) { w.Namespaces[0].Links = append([]Link{w.uplink}, w.Namespaces[0].Links...) },
	},
	"conntrack full": {
		func(w *world) { w.Namespaces[0].ConntrackCount, w.Namespaces[0].ConntrackMax = 100, 100 },
		func(w *world) { w.Namespaces[0].ConntrackCount = 1 },
	},
}

// reserve gives out the address 10.0.0.n to a container that lives.
func (w *world) reserve(n int) {
	address := netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})
	w.Reservations = append(w.Reservations, Reservation{Network: "pods", Dir: "/var/lib/cni/networks/pods", Address: address, ContainerID: "live", Since: begin})
	w.Containers["live"] = true
}

// start lets a trouble begin and be told; it returns what was told.
func (w *world) start(t *testing.T, begin func(*world)) []Event {
	w.after(0)
	begin(w)
	told := problems(w.after(time.Second))
	for range 2 {
		told = append(told, problems(w.after(2*grace))...)
	}
	require.NotEmpty(t, told)
	return told
}

func TestWhatStillStandsAfterARestartIsTheSameEvent(t *testing.T) {
	t.Parallel()
	for name, trouble := range troubles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, kept := newWorld(1), keeper{}
			w.start(t, trouble.begin)
			kept.take(w.decider)
			want := map[string]Event{}
			for key, k := range kept {
				want[key] = k.Event
			}
			w.restart(t, kept, nil)
			again := problems(w.after(time.Hour))
			for _, e := range again {
				found := false
				for _, before := range want {
					found = found || e.Name == before.Name && e.Time.Equal(before.Time) && e.Body == before.Body && assert.ObjectsAreEqual(before.Attributes, e.Attributes)
				}
				assert.True(t, found, "%+v is none of %+v", e, want)
			}
			assert.NotEmpty(t, again)
			for range 3 {
				assert.Empty(t, problems(w.after(2*grace)), "it is told once")
			}
			trouble.mend(w)
			over := problems(w.after(2 * grace))
			over = append(over, problems(w.after(2*grace))...)
			recoveredNames := map[any]bool{}
			for _, e := range over {
				if e.Name == event.CNIRecovered {
					recoveredNames[e.Attributes[event.KeyCNIRecovered]] = true
					assert.Regexp(t, "^Over: ", e.Body)
				}
			}
			for _, e := range want {
				assert.True(t, recoveredNames[e.Name], "%s is over", e.Name)
			}
		})
	}
}

func TestWhatEndedWhileNobodyLookedIsOver(t *testing.T) {
	t.Parallel()
	for name, trouble := range troubles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, kept := newWorld(1), keeper{}
			w.start(t, trouble.begin)
			kept.take(w.decider)
			want := map[any]bool{}
			for _, k := range kept {
				want[k.Event.Name] = true
			}
			w.restart(t, kept, nil)
			trouble.mend(w)
			events := problems(w.after(time.Hour))
			looked := w.At
			events = append(events, problems(w.after(time.Minute))...)
			got := map[any]bool{}
			for _, e := range events {
				require.Equal(t, event.CNIRecovered, e.Name)
				got[e.Attributes[event.KeyCNIRecovered]] = true
				assert.Equal(t, looked, e.Time)
				assert.Regexp(t, `^Over when the collector looked again after its start, at \d\d:\d\d:\d\d UTC: `, e.Body)
			}
			assert.Equal(t, want, got)
			kept.take(w.decider)
			assert.Empty(t, kept)
		})
	}
}

func TestWhatIsNewAfterARestartIsTold(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"configuration missing", "plugin missing", "uplink gone"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(1)
			w.after(0)
			w.restart(t, keeper{}, nil)
			troubles[name].begin(w) // while nobody looks: only who knows the past can miss it
			w.after(time.Hour)
			got := names(problems(w.after(time.Minute)))
			assert.NotEmpty(t, got)
			assert.NotContains(t, got, event.CNIPluginsMissing)
		})
	}
}

func TestAfterARestartNothingEndsUnseen(t *testing.T) {
	t.Parallel()
	w, kept := newWorld(1), keeper{}
	w.start(t, troubles["pod's interface down"].begin)
	w.restart(t, kept, nil)
	w.eth0(1).Up = true
	w.Unseen[SourcePods] = "no permission"
	for range 3 {
		assert.Empty(t, problems(w.after(time.Minute)), "it cannot be seen")
	}
	delete(w.Unseen, SourcePods)
	w.after(time.Minute)
	assert.Equal(t, []string{event.CNIRecovered}, names(problems(w.after(time.Minute))))
}

// What is switched off is neither over nor told again.
func TestWhatIsNotLookedAtAnyMoreIsForgotten(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]func(*Settings){
		"pod's interface down": func(s *Settings) { s.Interfaces = false },
		"namespace leaked":     func(s *Settings) { s.Leaks, s.Interfaces = false, false },
		"pool exhausted":       func(s *Settings) { s.Pools, s.Leaks = false, false },
		"conntrack full":       func(s *Settings) { s.Conntrack = false },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, kept := newWorld(1), keeper{}
			w.start(t, troubles[name].begin)
			w.restart(t, kept, off)
			troubles[name].mend(w)
			assert.Empty(t, problems(w.after(time.Minute)))
			assert.Empty(t, problems(w.after(time.Minute)))
			kept.take(w.decider)
			assert.Empty(t, kept)
		})
	}
}

// Where plugins are looked for was mistyped meanwhile: that says nothing about them.
func TestWhatWasInOtherDirectoriesIsNotMissed(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	w.after(0)
	w.restart(t, keeper{}, func(s *Settings) { s.PluginDirs, s.ConfigDirs = []string{"/opt/cni/bni"}, []string{"/etc/cni/nett.d"} })
	troubles["plugin missing"].begin(w)
	w.after(time.Minute)
	assert.Equal(t, []string{event.CNIPluginsMissing}, names(problems(w.after(time.Minute))))

	w = newWorld()
	w.after(0)
	w.restart(t, keeper{}, func(s *Settings) { s.ConfigDirs = []string{"/etc/cni/nett.d"} })
	w.Configs = nil
	w.after(time.Minute)
	assert.Empty(t, problems(w.after(time.Minute)))
}

// Of what was in directories that are not looked at any more nobody knows whether it is over.
func TestWhatWasInOtherDirectoriesIsForgotten(t *testing.T) {
	t.Parallel()
	elsewhere := []string{"/elsewhere"}
	for name, c := range map[string]struct {
		trouble   string
		move, add func(*Settings)
		// empty is what the picture shows of the other place.
		empty func(*world)
	}{
		"config_dirs, configuration invalid": {
			"configuration invalid", func(s *Settings) { s.ConfigDirs = elsewhere }, func(s *Settings) { s.ConfigDirs = append(elsewhere, s.ConfigDirs...) },
			func(w *world) { w.Configs, w.Plugins = nil, nil },
		},
		"config_dirs, pool exhausted": {
			"pool exhausted", func(s *Settings) { s.ConfigDirs = elsewhere }, func(s *Settings) { s.ConfigDirs = append(elsewhere, s.ConfigDirs...) },
			func(w *world) { w.Configs, w.Plugins = nil, nil },
		},
		"plugin_dirs": {
			"plugin missing", func(s *Settings) { s.PluginDirs = elsewhere }, func(s *Settings) { s.PluginDirs = append(elsewhere, s.PluginDirs...) },
			func(*world) {},
		},
		"data_dirs": {
			"pool exhausted", func(s *Settings) { s.DataDirs = elsewhere }, func(s *Settings) { s.DataDirs = append(elsewhere, s.DataDirs...) },
			func(w *world) { w.Reservations = nil },
		},
		"result_dirs": {
			"MTU", func(s *Settings) { s.ResultDirs = elsewhere }, func(s *Settings) { s.ResultDirs = append(elsewhere, s.ResultDirs...) },
			func(w *world) { w.Results = nil },
		},
		"host_namespace": {
			"uplink gone", func(s *Settings) { s.HostNamespace = "/run/netns/node" }, func(*Settings) {},
			func(w *world) { w.Namespaces[0] = &Namespace{Inode: 1, IsHost: true, Entered: true, HasProcess: true} },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, kept := newWorld(1), keeper{}
			w.decider.settings.ResultDirs = []string{"/var/lib/cni/results"}
			w.start(t, troubles[c.trouble].begin)
			w.restart(t, kept, c.move)
			assert.Empty(t, kept)
			c.empty(w)
			for range 2 {
				assert.NotContains(t, names(w.after(time.Minute)), event.CNIRecovered)
			}

			w, kept = newWorld(1), keeper{}
			w.start(t, troubles[c.trouble].begin)
			w.restart(t, kept, c.add)
			require.NotEmpty(t, kept, "it is still looked at")
			troubles[c.trouble].mend(w)
			assert.Contains(t, append(names(w.after(time.Minute)), names(w.after(time.Minute))...), event.CNIRecovered)
		})
	}
}

// After a boot interfaces have other numbers: an uplink is the same by its name.
func TestUplinkAfterABoot(t *testing.T) {
	t.Parallel()
	w, kept := newWorld(), keeper{}
	w.after(0)
	w.host("eth0").Up = false
	w.after(time.Second)
	told := problems(w.after(time.Minute))
	require.Equal(t, []string{event.CNIInterfaceDown}, names(told))
	w.restart(t, kept, func(s *Settings) { s.Boot = "another" })
	eth0 := *w.host("eth0")
	eth0.Index = 7
	eth1 := Link{Index: 1, Name: "eth1", MTU: 1500, PeerID: -1, Addresses: addresses("192.0.2.11/24")}
	w.Namespaces[0].Links[0] = eth1
	w.Namespaces[0].Links = append(w.Namespaces[0].Links, eth0)
	again := problems(w.after(time.Hour))
	assert.Equal(t, told, again, "eth0 is still down, and eth1, which has its number, never worked")
	w.host("eth0").Up = true
	w.after(time.Minute)
	assert.Equal(t, []string{event.CNIRecovered}, names(problems(w.after(time.Minute))))
}

func TestKeptRefusesWhatNobodyKept(t *testing.T) {
	t.Parallel()
	good := `{"key":"k","sources":["config"],"event":{"name":"n","time":"2026-11-23T03:00:00Z"}}`
	var k Kept
	require.NoError(t, json.Unmarshal([]byte(good), &k))
	for _, bad := range []string{
		`{}`, `{"key":"k"}`, `[]`, `{"key":"k","sources":[],"event":{"name":"n","time":"2026-11-23T03:00:00Z"}}`,
		`{"key":"k","sources":["x"],"event":{"name":"n","time":"2026-11-23T03:00:00Z"}}`,
		`{"key":"k","sources":["config"],"linger":-1,"event":{"name":"n","time":"2026-11-23T03:00:00Z"}}`,
		`{"key":"k","sources":["config"],"linger":9000000000000000000,"event":{"name":"n","time":"2026-11-23T03:00:00Z"}}`,
		`{"key":"k","sources":["config"],"event":{"name":"n","time":"yesterday"}}`,
	} {
		assert.Error(t, json.Unmarshal([]byte(bad), &k), bad)
	}
}

func FuzzKept(f *testing.F) {
	w := newWorld(1)
	w.after(0)
	w.eth0(1).Up = false
	w.after(time.Second)
	w.after(time.Minute)
	told, _ := w.decider.Changed()
	for _, k := range told {
		data, err := json.Marshal(k)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var k Kept
		if json.Unmarshal(data, &k) != nil {
			return
		}
		w := newWorld(1)
		w.decider.Restore(Past{}, []Kept{k})
		w.after(0)
		w.after(time.Hour)
		w.after(time.Hour)
		again, err := json.Marshal(k)
		require.NoError(t, err)
		var same Kept
		require.NoError(t, json.Unmarshal(again, &same))
	})
}
