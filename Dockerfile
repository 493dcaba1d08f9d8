# The device side of edgeprune for x86-64: ONNX Runtime, cameras, the live page; no torch. docs/service.md says how to start it.
FROM python:3.11-slim AS wheel
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY edgeprune edgeprune
COPY targets targets
COPY calib calib
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.11-slim
COPY constraints.txt /tmp/constraints.txt
COPY --from=wheel /wheel /wheel
RUN pip install --no-cache-dir -c /tmp/constraints.txt "$(ls /wheel/*.whl)[video,view]" \
    && rm -r /wheel /tmp/constraints.txt \
    && useradd --system --create-home --groups video edgeprune \
    && install --directory --owner edgeprune /data
USER edgeprune
ENV EDGEPRUNE_CACHE=/data/cache
WORKDIR /data
# asks the page of `view: 8080` or `view: 0.0.0.0:8080`; without one the container counts as unhealthy
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-m", "edgeprune.runtime.page.health", "8080"]
# the exec form: signals reach the run itself, which ends its files within a second
ENTRYPOINT ["edgeprune"]
CMD ["run", "--config", "/data/run.yaml"]
