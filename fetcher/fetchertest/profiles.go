package fetchertest

import "net/http"

// Profiles are the registries of the world, as their own documents and the
// issues of their clients describe them: challenges are quoted, and what
// nobody has written down is as plain as the specifications allow. Registries
// that people run themselves are under example.com. All credentials are made up.
var Profiles = []Profile{
	dockerHub, hardened, nvidia2020, nvidia2022, nvidia2026,
	github, quay, gcr, gcrSilent, artifactRegistry,
	elastic, elasticPublic, azure, azurePassword, microsoft, kubernetes,
	gitlab, harbor, harborProxied, artifactory, artifactoryBasic, nexus,
	gitea, codeberg, digitalOcean, oracle, ibm, alibaba,
	redHat, redHatAccess, suse, cloudflare, mirantis, pulp, zot, homemade,
}

// at is an image of a registry that users name by the host.
func at(host, repository, tag string) Place {
	return Place{URI: "docker://" + host + "/" + repository + "?" + tag, Repository: repository, Tag: tag}
}

// challenge is a 401.
func challenge(line string) *Refusal { return &Refusal{Challenge: line} }

// nothing is a token that grants nothing.
var nothing = Refusal{Status: http.StatusOK}

// someone is a credential where the registry has no custom of its own.
var someone = Credential{Username: "jo", Password: "p:wörd"}

var dockerHub = Profile{
	Name:       "Docker Hub",
	Host:       "registry-1.docker.io",
	Public:     Place{URI: "docker://docker.io/alpine?3.20", Repository: "library/alpine", Tag: "3.20"},
	Private:    at("docker.io", "jo/secret", "1"),
	Key:        "https://index.docker.io/v1/",
	Credential: someone,
	Root:       challenge(`Bearer realm="https://auth.docker.io/token",service="registry.docker.io"`),
	Cold:       challenge(`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:{repository}:pull"`),
	Narrow:     challenge(`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:{repository}:pull",error="insufficient_scope"`),
	TokenServers: []TokenServer{{
		Realm:           "https://auth.docker.io/token",
		Services:        []string{"registry.docker.io"},
		WrongService:    nothing,
		WrongCredential: Refusal{MediaType: "application/json", Body: `{"details":"incorrect username or password"}`},
		TokenFields:     []string{"token", "access_token"},
	}},
	Content: "production.cloudflare.docker.com",
}

// oras-dotnet#400: a stale token gets no challenge.
var hardened = Profile{
	Name:         "Docker Hardened Images",
	Host:         "dhi.io",
	Public:       at("dhi.io", "redis", "8"),
	Private:      at("dhi.io", "jo/redis", "8"),
	Key:          "dhi.io",
	Credential:   someone,
	Root:         challenge(`Bearer realm="https://dhi.io/token",service="registry.docker.io"`),
	Cold:         challenge(`Bearer realm="https://dhi.io/token",service="registry.docker.io",scope="repository:{repository}:pull"`),
	Stale:        &Refusal{},
	TokenServers: []TokenServer{{Realm: "https://dhi.io/token", Services: []string{"registry.docker.io"}}},
}

// MESOS-10092: the scope is in the realm's own query, and there is no service.
var nvidia2020 = nvidia("nvcr.io in 2020",
	nvidiaRefusal(`Bearer realm="https://nvcr.io/proxy_auth"`),
	nvidiaRefusal(`Bearer realm="https://nvcr.io/proxy_auth?scope=repository:{repository}:pull,push"`))

var nvidia2022 = nvidia("nvcr.io in 2022",
	nvidiaRefusal(`Bearer realm="https://nvcr.io/proxy_auth",scope=""`),
	nvidiaRefusal(`Bearer realm="https://nvcr.io/proxy_auth",scope=""`))

// keppel#731 has the challenge, nvidia-container-toolkit#1945 the other realm
// that a stale token gets; that one is of no use to anonymous clients.
var nvidia2026 = func() Profile {
	p := nvidia("nvcr.io in 2026",
		nvidiaRefusal(`Bearer realm="https://nvcr.io/proxy_auth",scope=""`),
		nvidiaRefusal(`Bearer realm="https://nvcr.io/proxy_auth",scope="repository:{repository}:pull"`))
	p.Stale = nvidiaRefusal(`Bearer realm="https://authn.nvidia.com/token",service="registry",error="invalid_token"`)
	p.TokenServers = append(p.TokenServers, TokenServer{Realm: "https://authn.nvidia.com/token", Closed: true})
	return p
}()

func nvidia(name string, root, cold *Refusal) Profile {
	return Profile{
		Name:         name,
		Host:         "nvcr.io",
		Public:       at("nvcr.io", "nvidia/k8s/cuda-sample", "nbody"),
		Private:      at("nvcr.io", "jo/secret", "1"),
		Key:          "nvcr.io",
		Credential:   Credential{Username: "$oauthtoken", Password: "nvapi-key"},
		Root:         root,
		Cold:         cold,
		TokenServers: []TokenServer{{Realm: "https://nvcr.io/proxy_auth", Lifetime: 600}},
	}
}

func nvidiaRefusal(line string) *Refusal {
	return &Refusal{Challenge: line, MediaType: "text/html", Body: "<html><body><h1>401 Authorization Required</h1></body></html>"}
}

// serverless-registry#148: the root's scope is a placeholder, and a scope that
// isn't to the point is refused. A credential that has expired is refused even
// for public packages (oras#1161).
var github = Profile{
	Name:       "GitHub Container Registry",
	Host:       "ghcr.io",
	Public:     at("ghcr.io", "org/app", "1.2"),
	Private:    at("ghcr.io", "jo/secret", "1"),
	Key:        "ghcr.io",
	Credential: someone,
	Root:       challenge(`Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:user/image:pull"`),
	Cold:       challenge(`Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:{repository}:pull"`),
	TokenServers: []TokenServer{{
		Realm:           "https://ghcr.io/token",
		Services:        []string{"ghcr.io"},
		Strict:          true,
		WrongScope:      Refusal{Status: http.StatusUnauthorized},
		WrongCredential: Refusal{Status: http.StatusForbidden},
	}},
}

// docker2aci#126: there may be no scope.
var quay = Profile{
	Name:         "Quay",
	Host:         "quay.io",
	Public:       at("quay.io", "prometheus/busybox", "latest"),
	Private:      at("quay.io", "jo/secret", "1"),
	Key:          "quay.io",
	Credential:   someone,
	Root:         challenge(`Bearer realm="https://quay.io/v2/auth",service="quay.io"`),
	Cold:         challenge(`Bearer realm="https://quay.io/v2/auth",service="quay.io"`),
	TokenServers: []TokenServer{{Realm: "https://quay.io/v2/auth", Services: []string{"quay.io"}}},
}

var gcr = Profile{
	Name:       "Google Container Registry",
	Host:       "gcr.io",
	Public:     at("gcr.io", "distroless/static", "nonroot"),
	Private:    at("gcr.io", "project/secret", "1"),
	Key:        "https://gcr.io",
	Credential: Credential{Username: "_json_key", Password: `{"type": "service_account"}`},
	Root:       challenge(`Bearer realm="https://gcr.io/v2/token",service="gcr.io"`),
	Cold:       challenge(`Bearer realm="https://gcr.io/v2/token",service="gcr.io"`),
	TokenServers: []TokenServer{{
		Realm:    "https://gcr.io/v2/token",
		Services: []string{"gcr.io"},
		Post:     &Refusal{Status: http.StatusNotFound},
	}},
}

// containers/image#195: only the root named a way in.
var gcrSilent = func() Profile {
	p := gcr
	p.Name, p.Cold = "Google Container Registry without challenges for manifests", &Refusal{}
	return p
}()

// containerd#13412: scopes of unknown repositories are refused. watchtower#1894:
// the root names no service.
var artifactRegistry = Profile{
	Name:       "Google Artifact Registry",
	Host:       "us-docker.pkg.dev",
	Public:     at("us-docker.pkg.dev", "project/public/app", "1"),
	Private:    at("us-docker.pkg.dev", "project/private/app", "1"),
	Key:        "us-docker.pkg.dev",
	Credential: Credential{Username: "oauth2accesstoken", Password: "ya29.token"},
	Root:       challenge(`Bearer realm="https://us-docker.pkg.dev/v2/token"`),
	Cold:       challenge(`Bearer realm="https://us-docker.pkg.dev/v2/token",service="us-docker.pkg.dev",scope="repository:{repository}:pull"`),
	TokenServers: []TokenServer{{
		Realm:    "https://us-docker.pkg.dev/v2/token",
		Services: []string{"us-docker.pkg.dev", ""},
		Strict:   true,
	}},
}

// oras#436: no Docker-Content-Digest with a manifest.
var elastic = Profile{
	Name:       "Amazon ECR",
	Host:       "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
	Private:    at("123456789012.dkr.ecr.eu-central-1.amazonaws.com", "team/app", "1.0"),
	Key:        "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
	Credential: Credential{Username: "AWS", Password: "twelve-hours"},
	Root:       challenge(`Basic realm="https://123456789012.dkr.ecr.eu-central-1.amazonaws.com/",service="ecr.amazonaws.com"`),
	Cold:       challenge(`Basic realm="https://123456789012.dkr.ecr.eu-central-1.amazonaws.com/",service="ecr.amazonaws.com"`),
	Basic:      true,
	WrongBasic: &Refusal{
		Status: http.StatusForbidden, MediaType: "text/plain; charset=utf-8",
		Body: "Your Authorization Token has expired. Please run 'aws ecr get-login-password' to fetch a new one.",
	},
	Content: "prod-eu-central-1-starport-layer-bucket.s3.eu-central-1.amazonaws.com",
	Header:  http.Header{"Docker-Content-Digest": nil},
}

// containers-roadmap#1296: an expired login is refused for all its content,
// which is public. The registry says so, not the token server.
var elasticPublic = Profile{
	Name:       "Amazon ECR Public",
	Host:       "public.ecr.aws",
	Public:     at("public.ecr.aws", "docker/library/busybox", "1.36"),
	Key:        "public.ecr.aws",
	Credential: Credential{Username: "AWS", Password: "twelve-hours"},
	Root:       challenge(`Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws"`),
	Cold:       challenge(`Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws"`),
	Narrow: &Refusal{
		Status: http.StatusForbidden, MediaType: "application/json",
		Body: `{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate and try again."}]}`,
	},
	TokenServers: []TokenServer{{
		Realm:           "https://public.ecr.aws/token/",
		Services:        []string{"public.ecr.aws"},
		Scopes:          []string{"aws"},
		Strict:          true,
		WrongCredential: nothing,
	}},
}

// The identity token is what its own login command leaves in the config.
// go-containerregistry#54: access_token is the one field.
var azure = Profile{
	Name:       "Azure Container Registry",
	Host:       "team.azurecr.io",
	Public:     at("team.azurecr.io", "samples/hello-world", "latest"),
	Private:    at("team.azurecr.io", "secret", "1"),
	Key:        "team.azurecr.io",
	Credential: Credential{Username: "00000000-0000-0000-0000-000000000000", IdentityToken: "refresh-me"},
	Root:       challenge(`Bearer realm="https://team.azurecr.io/oauth2/token",service="team.azurecr.io"`),
	Cold:       challenge(`Bearer realm="https://team.azurecr.io/oauth2/token",service="team.azurecr.io",scope="repository:{repository}:pull"`),
	Stale:      challenge(`Bearer realm="https://team.azurecr.io/oauth2/token",service="team.azurecr.io",scope="repository:{repository}:pull",error="invalid_token"`),
	TokenServers: []TokenServer{{
		Realm:        "https://team.azurecr.io/oauth2/token",
		Services:     []string{"team.azurecr.io"},
		PostPassword: &Refusal{Status: http.StatusBadRequest},
		TokenFields:  []string{"access_token"},
		Fields:       map[string]any{"expires_in": nil, "issued_at": nil},
	}},
}

var azurePassword = func() Profile {
	p := azure
	p.Name, p.Credential = "Azure Container Registry with a password", someone
	return p
}()

var microsoft = Profile{
	Name:   "Microsoft Container Registry",
	Host:   "mcr.microsoft.com",
	Public: at("mcr.microsoft.com", "dotnet/runtime", "9.0"),
}

// All of it is elsewhere.
var kubernetes = Profile{
	Name:              "registry.k8s.io",
	Host:              "registry.k8s.io",
	Public:            at("registry.k8s.io", "pause", "3.10"),
	Content:           "europe-west1-docker.pkg.dev",
	ContentIsRegistry: true,
}
