# syntax=docker/dockerfile:1

# plain, or pgo: it takes several times as long, and the binary less CPU (docs/benchmarks.md).
ARG BUILD=plain

# The compiler stays behind: only the binary goes into the last image.
FROM rust:1.90-slim-bookworm AS source
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src

FROM source AS plain
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin howdah \
 && install -D --strip --mode=0755 target/release/howdah /out/howdah

FROM source AS pgo
RUN apt-get update \
 && apt-get install --yes --no-install-recommends postgresql python3 openssl \
 && rustup component add llvm-tools
COPY bench bench
COPY scripts/pgo scripts/pgo
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    scripts/pgo \
 && install -D --strip --mode=0755 target/pgo/howdah /out/howdah

FROM ${BUILD} AS build

FROM debian:bookworm-slim
# Certificates of public authorities, for servers that are reached over TLS. (libpam, which `auth_type = "pam"` loads,
# is part of the base.)
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 65532 --user-group --no-create-home --shell /usr/sbin/nologin howdah
COPY --from=build /out/howdah /usr/local/bin/howdah
USER 65532:65532
# 6432: PostgreSQL's protocol. 9127: metrics and health.
EXPOSE 6432 9127
# SIGTERM drains: clients leave at the ends of their transactions.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["howdah", "health"]
ENTRYPOINT ["howdah"]
