// Hello is the program of the image that the tests and the demonstration run.
// What it prints shows that each layer of the image arrived: the greeting of
// /etc/motd, the name in /etc/os-release, the number of CA certificates in
// /etc/ssl/certs, its arguments and its environment. Where /etc/nologin is left
// from a lower layer, it refuses to run.
//
// It takes its files from the root that it was started from, /bin/hello having
// the root /, so it runs in a chroot and directly alike.
package main

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	root := filepath.Dir(filepath.Dir(os.Args[0]))
	report, err := describe(root, os.Args[1:], os.Environ())
	if err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err) //nolint:forbidigo // this program is no plugin
		os.Exit(1)
	}
	fmt.Print(report) //nolint:forbidigo // this program is no plugin
}

// describe returns what hello prints for the tree at root.
func describe(root string, arguments, environment []string) (string, error) {
	etc := filepath.Join(root, "etc")
	if _, err := os.Lstat(filepath.Join(etc, "nologin")); !os.IsNotExist(err) {
		return "", fmt.Errorf("%s: a file that the image removed is there", filepath.Join(etc, "nologin"))
	}
	greeting, err := os.ReadFile(filepath.Join(etc, "motd"))
	if err != nil {
		return "", err
	}
	system, err := prettyName(filepath.Join(etc, "os-release"))
	if err != nil {
		return "", err
	}
	certificates, err := countCertificates(filepath.Join(etc, "ssl", "cert.pem"))
	if err != nil {
		return "", err
	}
	slices.Sort(environment)
	return fmt.Sprintf("%ssystem: %s\nCA certificates: %d\narguments: %s\nenvironment: %s\n",
		greeting, system, certificates, strings.Join(arguments, " "), strings.Join(environment, " ")), nil
}

// prettyName returns the PRETTY_NAME of an os-release file.
func prettyName(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"`), nil
		}
	}
	return "", fmt.Errorf("%s: no PRETTY_NAME", path)
}

// countCertificates returns the number of certificates in a PEM file.
func countCertificates(path string) (int, error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for count := 0; ; count++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return count, nil
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return 0, fmt.Errorf("%s: certificate %d: %w", path, count+1, err)
		}
	}
}
