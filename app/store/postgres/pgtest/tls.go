package pgtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority is a private CA.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// WriteAuthority makes a private CA that has signed nothing, and writes its
// certificate to a file.
func WriteAuthority(path string) error {
	a, err := newAuthority()
	if err != nil {
		return err
	}
	return os.WriteFile(path, a.encoded(), 0o600)
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a CA: %w", err)
	}
	template := template("authority of a test")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a CA: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	return &authority{certificate, key}, err
}

func (a *authority) encoded() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// issue makes a certificate for our host, and its key.
func (a *authority) issue() (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	template := template("server of a test")
	template.IPAddresses = []net.IP{net.ParseIP(host)}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err1 := x509.CreateCertificate(rand.Reader, template, a.certificate, private.Public(), a.key)
	secret, err2 := x509.MarshalPKCS8PrivateKey(private)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), errors.Join(err1, err2)
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour),
		NotAfter:  time.Now().Add(24 * time.Hour),
	}
}

// initializeTLS gives the server a certificate, and has it refuse to talk without.
func (s *Server) initializeTLS() error {
	a, err := newAuthority()
	if err != nil {
		return err
	}
	certificate, key, err := a.issue()
	if err != nil {
		return err
	}
	s.CA = filepath.Join(s.folder, "ca.crt")
	return errors.Join(
		os.WriteFile(s.CA, a.encoded(), 0o600),
		s.write(filepath.Join("data", "server.crt"), string(certificate)),
		s.write(filepath.Join("data", "server.key"), string(key)),
		s.write(filepath.Join("data", "pg_hba.conf"), "hostssl all,replication all "+host+"/32 scram-sha-256\n"),
	)
}
