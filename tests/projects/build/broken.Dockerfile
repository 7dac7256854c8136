FROM busybox:1.37
RUN echo "about to fail" && exit 7
