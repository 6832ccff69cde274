# make demo and make test are all a newcomer needs; make check is what a change has to pass.

VERSION ?= 0.1.0-dev
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
# Without a build ID, the same source gives the same bytes, wherever it lies.
LDFLAGS  = -s -w -buildid= -X main.version=$(VERSION) -X main.commit=$(COMMIT)
# gRPC's own traces, which nothing shows, cost each start 0.1 ms and 1 MiB.
TAGS     = -tags grpcnotrace

BUF           = go run github.com/bufbuild/buf/cmd/buf@v1.75.0
GOLANGCI_LINT = go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK   = golang.org/x/vuln/cmd/govulncheck@v1.9.0
NFPM          = go run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0
MODULES       = . integration
FUZZTIME     ?= 30s
SOAKTIME     ?= 10m
# The same number draws the same faults and fetches again.
SOAKSEED     ?=

.PHONY: demo build test check format vet lint generate python man fresh cross fuzz fuzz-long soak bench fleet vulncheck image packages try-packages reproducible

# Compiled without optimization, the executable too: that halves a first build,
# which is most of what a newcomer waits for.
demo: ## fetch and run a real image, registry and agent included
	cd integration && CGO_ENABLED=0 GOFLAGS="-buildvcs=false '-gcflags=all=-N -l'" go run ./demo

build: ## the static executable
	CGO_ENABLED=0 go build -trimpath -buildvcs=false $(TAGS) -ldflags "$(LDFLAGS)" -o docker-fetcher ./cmd/docker-fetcher

reproducible: build ## the same commit gives the same bytes in another directory
	@there=$$(mktemp -d) && git archive HEAD | tar -x -C $$there && $(MAKE) -s -C $$there build COMMIT=$(COMMIT) VERSION=$(VERSION) && \
		sha256sum docker-fetcher $$there/docker-fetcher && cmp docker-fetcher $$there/docker-fetcher && rm -rf $$there

test: ## vet and race tests, both modules
	@for m in $(MODULES); do (cd $$m && go vet ./... && go test -race -shuffle=on ./...) || exit 1; done

check: format vet lint fresh test cross

format:
	@out=$$(gofmt -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$')); [ -z "$$out" ] || { echo "not formatted:"; echo "$$out"; exit 1; }

vet:
	@for m in $(MODULES); do (cd $$m && go vet ./... && go mod tidy -diff) || exit 1; done

lint:
	cd protocol && $(BUF) lint
	@for m in $(MODULES); do (cd $$m && $(GOLANGCI_LINT) run ./...) || exit 1; done

generate: ## the Go code of protocol/
	cd protocol && $(BUF) generate

python: ## the Python code of integration/python; needs Debian's protobuf-compiler and protobuf-compiler-grpc
	cd integration/python && protoc -I ../../protocol -I . --python_out=. dockerfetcher/v1/fetcher.proto rpc.proto
	cd integration/python && protoc -I ../../protocol --grpc_python_out=. \
		--plugin=protoc-gen-grpc_python=$$(command -v grpc_python_plugin) dockerfetcher/v1/fetcher.proto

man: ## the pages in docs/man and docs/progress.svg, from the commands; a test holds them to those
	go test -count=1 -run 'TestTheManPages|TestTheRenderedPicture' ./cmd/docker-fetcher -update

fresh: generate
	@git diff --exit-code -- protocol || { echo "generated code is stale: commit what 'make generate' made"; exit 1; }

# That it compiles is what counts here, and without optimization that takes half the time.
cross:
	@for os in linux darwin windows; do for arch in amd64 arm64; do \
		echo "$$os/$$arch"; CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch go build '-gcflags=all=-N -l' -o /dev/null ./cmd/docker-fetcher || exit 1; done; done

# go test ends a target that has found nothing with "context deadline exceeded" now
# and then, where its time ends in the middle of an execution. That is no finding.
fuzz: ## every fuzz target, FUZZTIME each
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	for m in $(MODULES); do (cd $$m && go test -list '^Fuzz' ./... >"$$tmp/list" || { cat "$$tmp/list"; exit 1; }; \
		awk '/^Fuzz/ { name[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2, name[i]; n = 0 }' "$$tmp/list" | while read -r pkg f; do \
			echo "$$pkg $$f"; \
			if go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $(FUZZFLAGS) "$$pkg" >"$$tmp/log" 2>&1; then tail -n 1 "$$tmp/log"; continue; fi; \
			cat "$$tmp/log"; grep -q '^    context deadline exceeded$$' "$$tmp/log" && \
				! grep -qE 'Failing input|failure while testing seed|_test\.go:[0-9]+:|panic:' "$$tmp/log" || exit 1; \
		done) || exit 1; done

fuzz-long: ## hours of it
	$(MAKE) fuzz FUZZTIME=10m

soak: ## fetchers of all kinds and the distribution registry, with faults between them, for SOAKTIME; SOAKSEED repeats a run
	cd integration && go run ./soak -time $(SOAKTIME) $(if $(SOAKSEED),-seed $(SOAKSEED))

bench: ## launch and start, transfer, content, cache, cold and warm fetches
	go test -run '^$$' -bench . -benchmem ./...

# The module that has Kraken's requirements. No other target runs it.
fleet: ## six agents of a peer-to-peer registry with a fetcher each, and the plan for 10,000; needs root, gcc and Debian's nginx-light
	cd integration/fleet && go vet ./... && go test ./simulate && go test -v -count=1 -timeout 10m .

# govulncheck exits with 3 where it found something, of which "go run" would make 1.
vulncheck: ## known vulnerabilities; needs the network, and with OFFLINE=1 goes on without it
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	unchecked() { cat "$$tmp/log"; echo "vulncheck: NOT CHECKED: $$1"; [ -n "$(OFFLINE)" ]; exit; }; \
	GOBIN=$$tmp go install $(GOVULNCHECK) >"$$tmp/log" 2>&1 || unchecked "govulncheck can't be had"; \
	for m in $(MODULES); do \
		(cd $$m && "$$tmp/govulncheck" ./...) >"$$tmp/log" 2>&1; status=$$?; \
		case $$status in \
			0) echo "vulncheck: $$m: nothing known"; continue;; \
			3) cat "$$tmp/log"; echo "vulncheck: $$m: FOUND"; exit 1;; \
		esac; \
		if grep -q '^govulncheck: fetching vulnerabilities' "$$tmp/log"; then unchecked "no vulnerability database"; fi; \
		cat "$$tmp/log"; exit $$status; \
	done

# Laid out first, with the date of the commit, so that the same commit gives the
# same packages. The completions are made by the executable itself, for this machine.
ARCH ?= $(shell go env GOARCH)
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
SHARE = packages/stage/share
packages: ## deb and rpm of ARCH, in packages/
	@rm -rf packages/stage && mkdir -p packages/stage/$(ARCH) $(SHARE)/man/man1 $(SHARE)/doc/docker-fetcher \
		$(SHARE)/bash-completion/completions $(SHARE)/zsh/vendor-completions $(SHARE)/fish/vendor_completions.d
	CGO_ENABLED=0 GOOS=linux GOARCH=$(ARCH) go build -trimpath -buildvcs=false $(TAGS) -ldflags "$(LDFLAGS)" -o packages/stage/$(ARCH)/docker-fetcher ./cmd/docker-fetcher
	CGO_ENABLED=0 go build -trimpath -buildvcs=false $(TAGS) -ldflags "$(LDFLAGS)" -o packages/stage/here ./cmd/docker-fetcher
	packages/stage/here completion bash >$(SHARE)/bash-completion/completions/docker-fetcher
	packages/stage/here completion zsh >$(SHARE)/zsh/vendor-completions/_docker-fetcher
	packages/stage/here completion fish >$(SHARE)/fish/vendor_completions.d/docker-fetcher.fish
	cp LICENSE $(SHARE)/doc/docker-fetcher/copyright
	for page in docs/man/*.1; do gzip -9nc $$page >$(SHARE)/man/man1/$$(basename $$page).gz; done
	find packages/stage -exec touch -h -d @$(SOURCE_DATE_EPOCH) {} + -exec chmod go-w {} +
	for config in nfpm nfpm-hadoop; do for kind in deb rpm; do \
		ARCH=$(ARCH) VERSION=$(VERSION) $(NFPM) package -f cmd/docker-fetcher/package/$$config.yaml -p $$kind -t packages/ || exit 1; done; done

try-packages: ## install, use and remove the packages; needs root, dpkg and a machine that can spare it
	VERSION=$(VERSION) cmd/docker-fetcher/package/try

image: ## needs a docker engine
	docker build --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) -t docker-fetcher:$(VERSION) .
