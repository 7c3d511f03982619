# purser in a container, as a user of its own. The engine and the data are mounted in:
#
#   docker run -d --name purser -p 2377:2377 \
#     -v purser-data:/var/lib/purser -v purser-run:/run/purser \
#     -v ./unlock.key:/run/keys/unlock.key:ro \
#     -v /var/run/docker.sock:/var/run/docker.sock --group-add "$(getent group docker | cut -d: -f3)" \
#     purser

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked \
    && install -D target/release/purser /out/purser \
    && mkdir -p /out/data /out/run

# --- final stage
FROM debian:bookworm-slim
COPY --from=build /out/purser /usr/local/bin/purser
COPY --from=build --chown=65532:65532 /out/data /var/lib/purser
COPY --from=build --chown=65532:65532 /out/run /run/purser
ENV PURSER_DATA_DIR=/var/lib/purser \
    PURSER_SOCKET=/run/purser/purser.sock \
    PURSER_UNLOCK_KEY_FILE=/run/keys/unlock.key
USER 65532:65532
VOLUME ["/var/lib/purser"]
EXPOSE 2377
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s CMD ["/usr/local/bin/purser", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/purser"]
CMD ["serve"]
