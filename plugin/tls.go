package plugin

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"os"
	"strings"
	"time"
)

// The two halves of go-plugin's AutoMTLS, with keys on P-256 in place of P-521:
// each side trusts the certificate that the other one made for this launch, and
// nothing else. go-plugin's own keys make a launch three times as long, and
// gRPC's C core before 2024 can't verify them.

// hostCertificate is the environment variable with the host's certificate; there
// is no TLS without it.
const hostCertificate = "PLUGIN_CLIENT_CERT"

// localhost is the name that go-plugin's certificates have.
const localhost = "localhost"

// mutualTLS returns the host's half: the environment variable, which holds no
// secret, and the config, to which go-plugin adds the certificate that the
// handshake brings.
func mutualTLS() (environment string, config *tls.Config, err error) {
	certificate, err := newCertificate()
	if err != nil {
		return "", nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
	return hostCertificate + "=" + string(text), &tls.Config{
		Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, ServerName: localhost,
	}, nil
}

// servedTLS returns the plugin's half, for the host's certificate in PEM.
func servedTLS(host string) (*tls.Config, error) {
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM([]byte(host)) {
		return nil, errors.New(hostCertificate + " holds no certificate in PEM")
	}
	certificate, err := newCertificate()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted,
	}, nil
}

func newCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: localhost, Organization: []string{"docker-fetcher"}},
		DNSNames:     []string{localhost},
		// A plugin may live as long as its host.
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              time.Now().AddDate(30, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// announce adds the plugin's certificate to the handshake, which go-plugin
// writes to os.Stdout without it when the TLS config is not its own.
func announce(config *tls.Config) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	stdout := os.Stdout //nolint:forbidigo // before Serve, it is the host's
	os.Stdout = w       //nolint:forbidigo // until Serve puts its own there
	go func() {
		defer r.Close()
		line, err := bufio.NewReader(r).ReadString('\n')
		if err == nil {
			_, _ = io.WriteString(stdout, withCertificate(line, config.Certificates[0].Certificate[0]))
		}
	}()
	return nil
}

// withCertificate fills in the sixth field of a handshake line.
func withCertificate(line string, der []byte) string {
	fields := strings.Split(strings.TrimSuffix(line, "\n"), "|")
	if len(fields) > 5 {
		fields[5] = base64.RawStdEncoding.EncodeToString(der)
	}
	return strings.Join(fields, "|") + "\n"
}
