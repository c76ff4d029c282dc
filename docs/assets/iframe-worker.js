// Browsers start no Worker for a page that is opened from a folder. There the search's script runs in a hidden frame of the page instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.early = []; // messages before the script has run
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      this.scope = frame.contentWindow;
      this.scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = frame.contentDocument.createElement("script");
      script.src = new URL(url, location.href).href;
      script.onload = () => {
        this.early.forEach((data) => this.deliver(data));
        this.early = null;
      };
      frame.contentDocument.head.appendChild(script);
    }

    postMessage(data) {
      if (this.early) this.early.push(data);
      else this.deliver(data);
    }

    deliver(data) {
      this.scope.dispatchEvent(new MessageEvent("message", { data }));
    }
  };
}
