FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY agentsight_tokens ./agentsight_tokens
COPY integrations ./integrations
RUN python -m venv /opt/agentsight \
    && /opt/agentsight/bin/pip install --no-cache-dir '.[server,postgres,redis]'

FROM python:3.13-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/agentsight agentsight
COPY --from=build /opt/agentsight /opt/agentsight
ENV PATH=/opt/agentsight/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    AGENTSIGHT_DATA_DIR=/var/lib/agentsight
USER 10001
VOLUME /var/lib/agentsight
EXPOSE 8765
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=6 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8765/readyz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["agentsight-tokens"]
CMD ["serve", "--host", "0.0.0.0"]
