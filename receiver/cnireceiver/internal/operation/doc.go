// Package operation puts together what happened to the container network from
// what processes did: a plugin of CNI began, read its configuration, wrote its
// result and ended. The plugins that a runtime runs for one request, one after
// another, and those that these call in turn (ipam, delegates), are one
// operation; it becomes one trace and, when it failed, one log record.
//
// Everything here is pure: no clock, no kernel, no file. Times are nanoseconds of
// CLOCK_BOOTTIME until they are encoded.
package operation
