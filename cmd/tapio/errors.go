package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"

	"github.com/yairfalse/tapio/internal/findingsapi"
)

// explain says in words for people what went wrong with a request.
func explain(err error, endpoint string) string {
	var status *findingsapi.StatusError
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nothing listens at %s. Is the collector running with the tapio extension? "+
			"Its `endpoint` option says where it listens; name it with --endpoint or %s.", endpoint, envEndpoint)
	case errors.As(err, &dns):
		return fmt.Sprintf("the host of %s has no address: %s", endpoint, dns.Err)
	case errors.As(err, &status) && (status.Code == http.StatusUnauthorized || status.Code == http.StatusForbidden):
		return fmt.Sprintf("%s; if it demands a bearer token, set %s", status.Error(), envToken)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("%s did not answer in time; --timeout allows it more", endpoint)
	}
	return err.Error()
}
