# docker build -t robustvit .
# docker run --rm -v "$PWD/results:/work/results" robustvit run            (the demo; other verbs and options as on a terminal)
FROM python:3.12-slim

# CPU wheels of torch; for another build, or a mirror: --build-arg TORCH=INDEX
ARG TORCH=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir "torch>=2.5" "torchvision>=0.20" --index-url "$TORCH"

COPY . /src
RUN pip install --no-cache-dir /src && rm -rf /src \
    && useradd --create-home --uid 1000 robustvit && mkdir /work && chown robustvit /work

USER 1000
WORKDIR /work
ENTRYPOINT ["robustvit"]
CMD ["run"]
