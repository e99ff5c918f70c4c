package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
)

const (
	// lowestPort keeps away from the ports that well-known services have.
	lowestPort = 10_000
	// defaultEphemeral is the kernel's default for the lowest ephemeral port.
	defaultEphemeral = 32_768
	rangeFile        = "/proc/sys/net/ipv4/ip_local_port_range"
)

// freeAddresses returns n loopback addresses (host:port) on which nobody listens.
// Their ports lie below the range from which the kernel takes the source ports
// of connections: from inside it, the port of a dead service could become the
// source port of a connection to that very port, which then succeeds.
func freeAddresses(ctx context.Context, n int) ([]string, error) {
	b, _ := os.ReadFile(rangeFile)
	top := firstEphemeral(string(b))
	addresses := make([]string, 0, n)
	// All are held until all are found, so that they differ.
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for tries := 0; len(addresses) < n; tries++ {
		if tries == 100*n {
			return nil, fmt.Errorf("no %d free ports from %d to %d on 127.0.0.1", n, lowestPort, top-1)
		}
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(lowestPort+rand.IntN(top-lowestPort)))
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			continue
		}
		held = append(held, l)
		addresses = append(addresses, address)
	}
	return addresses, nil
}

// firstEphemeral reads "lowest highest". What it cannot use gives the default.
func firstEphemeral(s string) int {
	first, err := parseFirst(s)
	if err != nil || first <= lowestPort+1000 {
		return defaultEphemeral
	}
	return first
}

func parseFirst(s string) (int, error) {
	f := strings.Fields(s)
	if len(f) != 2 {
		return 0, errors.New("want two numbers")
	}
	return strconv.Atoi(f[0])
}
