package fetchertest

import "net/http"

// containerd#12822: a POST gets the HTML of a page that isn't there.
var gitlab = Profile{
	Name:       "GitLab",
	Host:       "registry.gitlab.com",
	Public:     at("registry.gitlab.com", "group/project", "v1"),
	Private:    at("registry.gitlab.com", "group/secret/image", "v1"),
	Key:        "registry.gitlab.com",
	Credential: someone,
	Root:       challenge(`Bearer realm="https://gitlab.com/jwt/auth",service="container_registry"`),
	Cold:       challenge(`Bearer realm="https://gitlab.com/jwt/auth",service="container_registry",scope="repository:{repository}:pull"`),
	Stale:      challenge(`Bearer realm="https://gitlab.com/jwt/auth",service="container_registry",scope="repository:{repository}:pull",error="invalid_token"`),
	TokenServers: []TokenServer{{
		Realm:    "https://gitlab.com/jwt/auth",
		Services: []string{"container_registry"},
		Post: &Refusal{
			Status: http.StatusNotFound, MediaType: "text/html; charset=utf-8",
			Body: "<!DOCTYPE html>\n<html><head><title>The page could not be found (404)</title></head></html>",
		},
	}},
}

// harbor#18856: a token without access gets a challenge of another scheme;
// harbor#11632: so does, by way of such a token, a wrong password.
var harbor = Profile{
	Name:       "Harbor",
	Host:       "harbor.example.com",
	Public:     at("harbor.example.com", "library/app", "1"),
	Private:    at("harbor.example.com", "secret/app", "1"),
	Key:        "harbor.example.com",
	Credential: Credential{Username: "robot$ci", Password: "p"},
	Root:       challenge(`Bearer realm="https://harbor.example.com/service/token",service="harbor-registry"`),
	Cold:       challenge(`Bearer realm="https://harbor.example.com/service/token",service="harbor-registry",scope="repository:{repository}:pull"`),
	Narrow:     challenge(`Basic realm="harbor"`),
	TokenServers: []TokenServer{{
		Realm:           "https://harbor.example.com/service/token",
		Services:        []string{"harbor-registry"},
		WrongCredential: nothing,
		Post:            &Refusal{Status: http.StatusMethodNotAllowed},
	}},
}

// harbor#3114: TLS ends before it, and it was told of http only.
var harborProxied = func() Profile {
	p := harbor
	p.Name = "Harbor behind a TLS proxy"
	p.Root = challenge(`Bearer realm="http://harbor.example.com/service/token",service="harbor-registry"`)
	p.Cold = challenge(`Bearer realm="http://harbor.example.com/service/token",service="harbor-registry",scope="repository:{repository}:pull"`)
	server := p.TokenServers[0]
	server.Realm = "http://harbor.example.com/service/token"
	p.TokenServers = []TokenServer{server}
	return p
}()

// cri#610: each of its repositories, which hold many images, has a realm.
var artifactory = Profile{
	Name:       "Artifactory",
	Host:       "team.jfrog.io",
	Public:     at("team.jfrog.io", "docker-local/app", "1"),
	Private:    at("team.jfrog.io", "docker-local/secret", "1"),
	Key:        "team.jfrog.io",
	Credential: someone,
	Root:       challenge(`Bearer realm="https://team.jfrog.io/artifactory/api/docker/docker-local/v2/token",service="team.jfrog.io"`),
	Cold:       challenge(`Bearer realm="https://team.jfrog.io/artifactory/api/docker/docker-local/v2/token",service="team.jfrog.io",scope="repository:{repository}:pull"`),
	TokenServers: []TokenServer{{
		Realm:    "https://team.jfrog.io/artifactory/api/docker/docker-local/v2/token",
		Services: []string{"team.jfrog.io"},
		Post:     &Refusal{Status: http.StatusUnauthorized},
	}},
}

var artifactoryBasic = onlyBasic("Artifactory with Basic", "artifactory.example.com", `Basic realm="Artifactory Realm"`, someone)

var nexus = onlyBasic("Nexus", "nexus.example.com", `BASIC realm="Sonatype Nexus Repository Manager"`, someone)

var cloudflare = onlyBasic("Cloudflare", "registry.cloudflare.com", `Basic realm="registry.cloudflare.com"`,
	Credential{Username: "v1", Password: "minted"})

// onlyBasic is a registry without a token server and without public content.
func onlyBasic(name, host, line string, credential Credential) Profile {
	return Profile{
		Name: name, Host: host, Private: at(host, "team/app", "1.0"), Key: host, Credential: credential,
		Root: challenge(line), Cold: challenge(line), Basic: true,
	}
}

// container#454: the scope means whatever the token's owner may, and even
// public content asks for a token.
var gitea = Profile{
	Name:       "Gitea",
	Host:       "gitea.example.com",
	Public:     at("gitea.example.com", "org/app", "1"),
	Private:    at("gitea.example.com", "jo/secret", "1"),
	Key:        "gitea.example.com",
	Credential: someone,
	Root:       challenge(`Bearer realm="https://gitea.example.com/v2/token",service="container_registry",scope="*"`),
	Cold:       challenge(`Bearer realm="https://gitea.example.com/v2/token",service="container_registry",scope="*"`),
	TokenServers: []TokenServer{{
		Realm:    "https://gitea.example.com/v2/token",
		Services: []string{"container_registry"},
		Scopes:   []string{"*", "repository:{repository}:pull"},
	}},
}

// Two challenges in one line, the second of which is no address of tokens.
var codeberg = Profile{
	Name:       "Codeberg",
	Host:       "codeberg.org",
	Public:     at("codeberg.org", "forgejo/forgejo", "11"),
	Private:    at("codeberg.org", "jo/secret", "1"),
	Key:        "codeberg.org",
	Credential: someone,
	Root:       challenge(codebergLine),
	Cold:       challenge(codebergLine),
	Basic:      true,
	TokenServers: []TokenServer{{
		Realm:    "https://codeberg.org/v2/token",
		Services: []string{"container_registry", "codeberg.org"},
		Scopes:   []string{"*", "repository:{repository}:pull"},
	}},
}

const codebergLine = `Bearer realm="https://codeberg.org/v2/token",service="container_registry",scope="*",` +
	`Basic realm="https://codeberg.org/v2",service="container_registry",scope="*"`

var digitalOcean = Profile{
	Name:       "DigitalOcean",
	Host:       "registry.digitalocean.com",
	Public:     at("registry.digitalocean.com", "team/app", "1"),
	Private:    at("registry.digitalocean.com", "team/secret", "1"),
	Key:        "registry.digitalocean.com",
	Credential: someone,
	Root:       challenge(`Bearer realm="https://api.digitalocean.com/v2/registry/auth",service="registry.digitalocean.com"`),
	Cold:       challenge(`Bearer realm="https://api.digitalocean.com/v2/registry/auth",service="registry.digitalocean.com",scope="repository:{repository}:pull"`),
	TokenServers: []TokenServer{{
		Realm:    "https://api.digitalocean.com/v2/registry/auth",
		Services: []string{"registry.digitalocean.com"},
		Post:     &Refusal{Status: http.StatusMethodNotAllowed},
	}},
}

// binderhub#1586: the scope is there, and empty.
var oracle = Profile{
	Name:         "Oracle OCIR",
	Host:         "fra.ocir.io",
	Public:       at("fra.ocir.io", "tenancy/app", "1"),
	Private:      at("fra.ocir.io", "tenancy/secret", "1"),
	Key:          "fra.ocir.io",
	Credential:   Credential{Username: "tenancy/jo@example.com", Password: "p"},
	Root:         challenge(`Bearer realm="https://fra.ocir.io/20180419/docker/token",service="fra.ocir.io",scope=""`),
	Cold:         challenge(`Bearer realm="https://fra.ocir.io/20180419/docker/token",service="fra.ocir.io",scope=""`),
	TokenServers: []TokenServer{{Realm: "https://fra.ocir.io/20180419/docker/token", Services: []string{"fra.ocir.io"}}},
}

// Without quotes, and closed to anonymous clients.
var ibm = Profile{
	Name:       "IBM Container Registry",
	Host:       "cp.icr.io",
	Private:    at("cp.icr.io", "cp/ibm-ceph/ceph-8-rhel9", "latest"),
	Key:        "cp.icr.io",
	Credential: Credential{Username: "iamapikey", Password: "p"},
	Root:       challenge(`Bearer realm=https://cp.icr.io/oauth/token, service=registry`),
	Cold:       challenge(`Bearer realm=https://cp.icr.io/oauth/token, service=registry, scope=repository:{repository}:pull`),
	TokenServers: []TokenServer{{
		Realm:           "https://cp.icr.io/oauth/token",
		Services:        []string{"registry"},
		Closed:          true,
		WrongCredential: Refusal{MediaType: "text/plain", Body: "The requested authentication method is not supported"},
	}},
}

// The service has colons.
var alibaba = Profile{
	Name:       "Alibaba ACR",
	Host:       "registry.cn-hangzhou.aliyuncs.com",
	Public:     at("registry.cn-hangzhou.aliyuncs.com", "acs/app", "1"),
	Private:    at("registry.cn-hangzhou.aliyuncs.com", "jo/secret", "1"),
	Key:        "registry.cn-hangzhou.aliyuncs.com",
	Credential: someone,
	Root:       challenge(`Bearer realm="https://dockerauth.aliyuncs.com/auth",service="registry.aliyuncs.com:cn-hangzhou:26842"`),
	Cold:       challenge(`Bearer realm="https://dockerauth.aliyuncs.com/auth",service="registry.aliyuncs.com:cn-hangzhou:26842"`),
	TokenServers: []TokenServer{{
		Realm:    "https://dockerauth.aliyuncs.com/auth",
		Services: []string{"registry.aliyuncs.com:cn-hangzhou:26842"},
	}},
}

// oras-java#522: no Docker-Content-Digest with a manifest.
var redHat = Profile{
	Name:       "registry.redhat.io",
	Host:       "registry.redhat.io",
	Public:     at("registry.redhat.io", "ubi9/ubi", "9.4"),
	Private:    at("registry.redhat.io", "rhel9/secret", "1"),
	Key:        "registry.redhat.io",
	Credential: someone,
	Root:       challenge(redHatLine),
	Cold:       challenge(redHatLine),
	TokenServers: []TokenServer{{
		Realm:    "https://registry.redhat.io/auth/realms/rhcc/protocol/redhat-docker-v2/auth",
		Services: []string{"docker-registry"},
	}},
	Header: http.Header{"Docker-Content-Digest": nil},
}

const redHatLine = `Bearer realm="https://registry.redhat.io/auth/realms/rhcc/protocol/redhat-docker-v2/auth",service="docker-registry"`

// Manifests came as mere text.
var redHatAccess = Profile{
	Name:   "registry.access.redhat.com",
	Host:   "registry.access.redhat.com",
	Public: at("registry.access.redhat.com", "ubi9/ubi", "9.4"),
	Header: http.Header{"Docker-Content-Digest": nil, "Content-Type": {"text/plain"}},
}

// The service has spaces, and even a cold request is told of an error.
var suse = Profile{
	Name:       "SUSE",
	Host:       "registry.suse.com",
	Public:     at("registry.suse.com", "bci/bci-base", "15.6"),
	Private:    at("registry.suse.com", "private/app", "1"),
	Key:        "registry.suse.com",
	Credential: someone,
	Root:       challenge(`Bearer realm="https://registry.suse.com/auth",service="SUSE Linux Docker Registry"`),
	Cold:       challenge(`Bearer realm="https://registry.suse.com/auth",service="SUSE Linux Docker Registry",scope="repository:{repository}:pull",error="insufficient_scope"`),
	TokenServers: []TokenServer{{
		Realm:    "https://registry.suse.com/auth",
		Services: []string{"SUSE Linux Docker Registry"},
	}},
}

// containerd#5288
var mirantis = selfHosted("Mirantis MSR", "msr.example.com",
	TokenServer{Realm: "https://msr.example.com/auth/token", Post: &Refusal{Status: http.StatusInternalServerError}})

// containerd#5469: the realm is an http one, and the service that of the
// registry before its proxy.
var pulp = func() Profile {
	p := selfHosted("Pulp", "pulp.example.com",
		TokenServer{Realm: "http://pulp.example.com/token/", Services: []string{"localhost:24817"}, Post: &Refusal{Status: http.StatusMethodNotAllowed}})
	p.Root = challenge(`Bearer realm="http://pulp.example.com/token/",service="localhost:24817"`)
	p.Cold = challenge(`Bearer realm="http://pulp.example.com/token/",service="localhost:24817"`)
	return p
}()

// zot#4033: the realm is relative.
var zot = selfHosted("zot", "zot.example.com", TokenServer{Realm: "/zot/auth/token"})

// distribution#1746, moby#20970: token servers that people wrote themselves
// have numbers in quotes, and times that are numbers.
var homemade = selfHosted("distribution with a token server of one's own", "registry.example.com", TokenServer{
	Realm:  "https://auth.example.com/token",
	Fields: map[string]any{"expires_in": "300", "issued_at": 1456000000},
})

// selfHosted is a registry with the plainest challenges.
func selfHosted(name, host string, server TokenServer) Profile {
	line := `Bearer realm="` + server.Realm + `",service="` + host + `"`
	if server.Services == nil {
		server.Services = []string{host}
	}
	return Profile{
		Name: name, Host: host, Key: host, Credential: someone,
		Public: at(host, "team/app", "1.0"), Private: at(host, "team/secret", "1.0"),
		Root: challenge(line), Cold: challenge(line + `,scope="repository:{repository}:pull"`),
		TokenServers: []TokenServer{server},
	}
}
