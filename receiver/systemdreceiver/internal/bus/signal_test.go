package bus

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	path := dbus.ObjectPath(managerPath)
	job := dbus.ObjectPath(jobPrefix + "7")
	for _, tt := range []struct {
		signal dbus.Signal
		want   Signal
	}{
		{dbus.Signal{Name: managerIface + ".UnitRemoved", Body: []any{"a.service", path}}, UnitRemoved{"a.service"}},
		{dbus.Signal{Name: managerIface + ".JobNew", Body: []any{uint32(7), job, "a.service"}}, JobNew{7, "a.service"}},
		{dbus.Signal{Name: managerIface + ".JobRemoved", Body: []any{uint32(7), job, "a.service", "done"}}, JobRemoved{7, "a.service", "done"}},
		{dbus.Signal{Name: managerIface + ".StartupFinished", Body: []any{uint64(1)}}, StartupFinished{}},
		{dbus.Signal{Name: managerIface + ".Reloading", Body: []any{true}}, Reloading{true}},
		{dbus.Signal{Name: managerIface + ".UnitNew", Body: []any{"a.service", path}}, nil},
		{dbus.Signal{Name: busIface + ".NameOwnerChanged", Body: []any{name, "", ":1.5"}}, OwnerChanged{true}},
		{dbus.Signal{Name: busIface + ".NameOwnerChanged", Body: []any{name, ":1.5", ""}}, OwnerChanged{false}},
		{dbus.Signal{Name: busIface + ".NameOwnerChanged", Body: []any{"other", ":1.5", ""}}, nil},
		{changed(dbus.ObjectPath(unitPrefix+escape("a-1.service")), map[string]dbus.Variant{"NRestarts": dbus.MakeVariant(uint32(3))}), UnitChanged{"a-1.service", Properties{"NRestarts": uint32(3)}}},
		{changed(job, map[string]dbus.Variant{"State": dbus.MakeVariant("running")}), JobChanged{7, "running"}},
		{changed(job, map[string]dbus.Variant{}), nil},
		{changed(path, map[string]dbus.Variant{}), nil},
	} {
		got, ok := decode(&tt.signal)
		assert.True(t, ok, tt.signal.Name)
		assert.Equal(t, tt.want, got, tt.signal.Name)
	}
	for _, malformed := range []dbus.Signal{
		{Name: managerIface + ".UnitRemoved"},
		{Name: managerIface + ".JobNew", Body: []any{"7", job, "a.service"}},
		{Name: managerIface + ".JobRemoved", Body: []any{uint32(7)}},
		{Name: managerIface + ".Reloading", Body: []any{1}},
		{Name: busIface + ".NameOwnerChanged", Body: []any{name}},
		{Name: propsIface + ".PropertiesChanged", Path: unitPrefix + "a", Body: []any{"x"}},
		changed(jobPrefix+"x", map[string]dbus.Variant{"State": dbus.MakeVariant("running")}),
	} {
		_, ok := decode(&malformed)
		assert.False(t, ok, malformed.Name)
	}
}

func changed(path dbus.ObjectPath, properties map[string]dbus.Variant) dbus.Signal {
	return dbus.Signal{Name: propsIface + ".PropertiesChanged", Path: path, Body: []any{"iface", properties, []string{}}}
}

func TestEscape(t *testing.T) {
	t.Parallel()
	// As sd_bus_path_encode(3) does it.
	for unit, path := range map[string]string{
		"dbus.service": "dbus_2eservice", "getty@tty1.service": "getty_40tty1_2eservice", "-.mount": "_2d_2emount",
		"9p.mount": "_39p_2emount", "": "_", `a\x2d.mount`: "a_5cx2d_2emount", "ü.service": "_c3_bc_2eservice",
	} {
		assert.Equal(t, path, escape(unit))
		assert.Equal(t, unit, unescape(path))
	}
	assert.Equal(t, "a_", unescape("a_"), "no escape is left as it is")
	assert.Equal(t, "a_zz", unescape("a_zz"))
}

func FuzzEscape(f *testing.F) {
	f.Add("getty@tty1.service")
	f.Fuzz(func(t *testing.T, unit string) {
		path := escape(unit)
		assert.True(t, dbus.ObjectPath("/"+path).IsValid())
		assert.Equal(t, unit, unescape(path))
	})
}

// FuzzDecode: whatever comes over the bus, nothing breaks.
func FuzzDecode(f *testing.F) {
	for _, s := range []dbus.Signal{
		{Name: managerIface + ".JobRemoved", Path: managerPath, Body: []any{uint32(7), dbus.ObjectPath(jobPrefix + "7"), "a.service", "done"}},
		changed(unitPrefix+"a", map[string]dbus.Variant{"NRestarts": dbus.MakeVariant(uint32(3)), "InvocationID": dbus.MakeVariant([]byte{1})}),
	} {
		f.Add(encode(f, &s))
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		message, err := dbus.DecodeMessage(bytes.NewReader(data))
		if err != nil {
			return
		}
		s := &dbus.Signal{Body: message.Body}
		iface, _ := message.Headers[dbus.FieldInterface].Value().(string)
		member, _ := message.Headers[dbus.FieldMember].Value().(string)
		s.Path, _ = message.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
		s.Name = iface + "." + member
		signal, ok := decode(s)
		if ok && signal != nil {
			signal.isSignal()
		}
	})
}

func encode(f *testing.F, s *dbus.Signal) []byte {
	f.Helper()
	i := bytes.LastIndexByte([]byte(s.Name), '.')
	message := &dbus.Message{
		Type: dbus.TypeSignal,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldInterface: dbus.MakeVariant(s.Name[:i]), dbus.FieldMember: dbus.MakeVariant(s.Name[i+1:]),
			dbus.FieldPath: dbus.MakeVariant(s.Path), dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(s.Body...)),
		},
		Body: s.Body,
	}
	var b bytes.Buffer
	require.NoError(f, message.EncodeTo(&b, binary.LittleEndian))
	return b.Bytes()
}
