package extensioncheck

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
	"go.yaml.in/yaml/v3"
)

func check(t *testing.T, text string) error {
	t.Helper()
	var m map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(text), &m))
	conf := confmap.NewFromStringMap(m)
	before := conf.ToStringMap()
	err := NewFactory().Create(confmap.ConverterSettings{}).Convert(t.Context(), conf)
	assert.Equal(t, before, conf.ToStringMap(), "it changes nothing")
	return err
}

const pipelines = `
service:
  extensions: [tapio, tapio/two, health_check]
  pipelines:
    logs: {receivers: [tapio_systemd, tapio_cni], exporters: [tapio_findings, tapio_findings/other, nop]}
`

func TestExtensionsThatRun(t *testing.T) {
	for _, components := range []string{
		"", "exporters: {tapio_findings: , nop: }\nreceivers: {tapio_systemd: }",
		"exporters: {tapio_findings: {extension: tapio/two}}\nreceivers: {tapio_systemd: {storage: health_check}}", // the start tells what that cannot do
		"exporters: {tapio_findings/unused: {extension: nope}}\nreceivers: {tapio_systemd/unused: {storage: nope}}",
		"exporters: {otlp: {extension: nope}}", // another's key
		"exporters: [what]\nreceivers: 7", "exporters: {tapio_findings: {extension: 7}}", "receivers: {tapio_systemd: text}",
	} {
		assert.NoError(t, check(t, components+pipelines), components)
	}
	assert.NoError(t, check(t, "service: {extensions: 7, pipelines: [x]}"))
}

func TestExtensionsThatDoNot(t *testing.T) {
	err := check(t, `
exporters: {tapio_findings: {extension: nope}, tapio_findings/other: {extension: tapio/three}}
receivers: {tapio_systemd: {storage: file_storage}, tapio_cni: {storage: keeper}}
`+pipelines)
	assert.ErrorContains(t, err, `exporters::tapio_findings::extension: "nope" is not in service::extensions, which has [tapio tapio/two health_check]: add it there, or name an extension of type tapio that is`)
	assert.ErrorContains(t, err, `exporters::tapio_findings/other::extension: "tapio/three" is not in`)
	assert.ErrorContains(t, err, `receivers::tapio_systemd::storage: "file_storage" is not in service::extensions, which has [tapio tapio/two health_check]: add it there, or name a storage extension, such as file_storage, that is`)
	assert.ErrorContains(t, err, `receivers::tapio_cni::storage: "keeper" is not in`)
	err = check(t, "exporters: {tapio_findings: }\nservice: {pipelines: {logs: {exporters: [tapio_findings]}}}")
	assert.ErrorContains(t, err, `exporters::tapio_findings::extension: "tapio" is not in service::extensions, which has []`)
}
