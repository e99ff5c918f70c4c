package snapshot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/internal/linux"
)

// groups are the changes of which the kernel tells: RTMGRP_* of linux/rtnetlink.h, and
// those of rules, of which that has one.
const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE |
	1<<(unix.RTNLGRP_IPV4_RULE-1) | 1<<(unix.RTNLGRP_IPV6_RULE-1)

// Notifier says that something changed in the host's network namespace, or in
// one to which a veth of the host leads. What it was, a picture shows.
type Notifier struct {
	// Changes gets a token after a change. It holds one.
	Changes <-chan struct{}
	// OnlyHost says why changes in other namespaces go unnoticed; nil when they do not.
	OnlyHost error

	socket *os.File
	done   chan struct{}
}

// Notify listens in the host's namespace. It holds no other, so that none is
// kept alive by it.
func Notify(opts Options) (*Notifier, error) {
	path := filepath.Join("/", opts.Root, "proc/1/ns/net")
	if opts.HostNamespace != "" {
		path = Resolve(opts.Root, opts.HostNamespace)
	}
	host, _, err := openNamespaceFile(path)
	if errors.Is(err, os.ErrPermission) && opts.HostNamespace == "" {
		host, _, err = openNamespaceFile(ownNamespace)
	}
	if err != nil {
		return nil, fmt.Errorf("the host's network namespace: %w", err)
	}
	defer host.Close()
	var fd int
	linux.OnOwnThread(func() { fd, err = subscribe(host) })
	if err != nil {
		return nil, err
	}
	changes := make(chan struct{}, 1)
	n := &Notifier{Changes: changes, done: make(chan struct{})}
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1); err != nil {
		n.OnlyHost = fmt.Errorf("listen to all network namespaces, which takes CAP_NET_BROADCAST: %w", err)
	}
	n.socket = os.NewFile(uintptr(fd), "netlink")
	go n.read(changes)
	return n, nil
}

// subscribe opens the socket inside a namespace. It runs on a thread of its own.
func subscribe(ns *os.File) (int, error) {
	own, err := os.Readlink(ownNamespace)
	if err != nil {
		return -1, err
	}
	fi, err := ns.Stat()
	if err != nil {
		return -1, err
	}
	if at, _ := namespaceInode(own); at != inode(fi) {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return -1, fmt.Errorf("enter the host's network namespace, which takes CAP_SYS_ADMIN: %w", err)
		}
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, fmt.Errorf("netlink: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return -1, errors.Join(fmt.Errorf("netlink: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// read empties the socket. Messages that did not fit into it (ENOBUFS) are a
// change too.
func (n *Notifier) read(changes chan<- struct{}) {
	defer close(n.done)
	buf := make([]byte, 32<<10)
	for {
		_, err := n.socket.Read(buf)
		if err != nil && (errors.Is(err, os.ErrClosed) || errors.Is(err, io.EOF)) {
			return
		}
		select {
		case changes <- struct{}{}:
		default:
		}
	}
}

// Close ends it.
func (n *Notifier) Close() error {
	err := n.socket.Close()
	<-n.done
	return err
}
