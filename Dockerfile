# The executable alone, static, for a host's image to copy from:
#   COPY --from=docker-fetcher /docker-fetcher /usr/libexec/docker-fetcher
# or to fetch from a shell:
#   mkdir out && docker run --rm -u "$(id -u)" -v "$PWD/out:/out" docker-fetcher fetch alpine:3.20 /out
# The executable is the same, byte for byte, as that of `make build` from the same
# commit with this version of Go.
ARG GO=1.26.8
FROM golang:${GO} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=0.1.0-dev
ARG COMMIT=
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags grpcnotrace -ldflags "-s -w -buildid= -X main.version=${VERSION} -X main.commit=${COMMIT}" \
    -o /docker-fetcher ./cmd/docker-fetcher

FROM scratch
ARG VERSION=0.1.0-dev
ARG COMMIT=
LABEL org.opencontainers.image.title="docker-fetcher" \
      org.opencontainers.image.description="Fetches container images, verified: a go-plugin executable for container agents" \
      org.opencontainers.image.source="https://github.com/docker-fetcher/docker-fetcher" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /docker-fetcher /docker-fetcher
USER 65532:65532
ENTRYPOINT ["/docker-fetcher"]
