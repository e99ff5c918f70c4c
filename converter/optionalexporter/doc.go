// Package optionalexporter lets a configuration hold exporters that exist only
// when an endpoint is set, which YAML itself cannot say.
//
// An exporter whose id has the name "optional", such as otlp_grpc/optional, and
// whose endpoint is empty is removed from the configuration and from every
// pipeline before the collector reads it. So one file serves both cases:
//
//	exporters:
//	  otlp_grpc/optional:
//	    endpoint: ${env:TAPIO_EXPORT_ENDPOINT:-}
//
// Everything else stays as it was written. A pipeline that would be left
// without an exporter is an error, because the collector's own message for it
// would not say where the exporter went.
package optionalexporter
