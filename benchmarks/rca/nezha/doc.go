// Package nezha reads the replay extract of the Nezha data set (ESEC/FSE 2023,
// github.com/IntelligentDDS/Nezha): spans, logs and metrics of a microservice
// system in which one service at a time was broken.
//
// Every folder is a recording, with spans.csv.gz and, where there are any,
// logs.csv.gz and metrics.csv.gz. They become OTLP as a collector would get it:
//
//	file                          OTLP
//	spans.csv.gz                  spans; resource service.name, k8s.pod.name; no kind, status or attributes: there are none
//	logs.csv.gz                   log records with body, severity, trace and span id, log.iostream;
//	                              resource service.name, k8s.pod.name, k8s.container.name, k8s.node.name
//	metrics.csv.gz                gauges and sums; resource service.name, k8s.pod.name and, where a log of the pod
//	                              tells it, k8s.node.name. Names and units are those of the collector's
//	                              kubeletstats receiver:
//	  CpuUsage(m)                   k8s.pod.cpu.usage, in CPUs
//	  CpuUsageRate(%)               k8s.pod.cpu_limit_utilization, from 0 to 1
//	  MemoryUsage(Mi)               k8s.pod.memory.usage, in bytes
//	  MemoryUsageRate(%)            k8s.pod.memory_limit_utilization, from 0 to 1
//	  NetworkReceiveBytes           k8s.pod.network.io, direction receive: bytes/s summed up to a counter
//	  NetworkTransmitBytes          k8s.pod.network.io, direction transmit, likewise
//
// Not converted: counts of system calls, latencies and success rates per pod and
// utilization per node (columns that no receiver of a collector emits; the spans
// say what the latencies do), and front_service.csv.gz, which describes all
// services at once.
package nezha
