# syntax=docker/dockerfile:1

# The compiler stays behind: only the binary goes into the second image.
FROM rust:1.90-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin howdah \
 && install -D --strip --mode=0755 target/release/howdah /out/howdah

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
