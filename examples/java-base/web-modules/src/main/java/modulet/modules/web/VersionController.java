package modulet.modules.web;

import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.URL;
import java.util.jar.Attributes;
import java.util.jar.Manifest;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.DisposableBean;
import org.springframework.beans.factory.InitializingBean;
import org.springframework.core.env.Environment;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;

/**
 * {@code GET /webbiz/version} says which version answers, and on which base; {@code ?wait=2000} makes it take that many
 * milliseconds. {@code --sleep=3000} among the module's arguments makes its start take that long.
 */
@RestController
public class VersionController implements InitializingBean, DisposableBean {
    private static final Logger LOG = LoggerFactory.getLogger(VersionController.class);

    private final String module;
    private final long sleep;

    public VersionController(Environment environment) throws IOException {
        this.module = readManifest();
        this.sleep = environment.getProperty("sleep", Long.class, 0L);
    }

    @GetMapping(path = "/version", produces = "text/plain; charset=utf-8")
    public String version(@RequestParam(name = "wait", defaultValue = "0") long wait) throws InterruptedException {
        Thread.sleep(wait);
        return module + " on " + System.getenv("BASE_ID") + "\n";
    }

    @Override
    public void afterPropertiesSet() throws InterruptedException {
        if (sleep > 0) {
            LOG.info("module {} takes {} ms to start", module, sleep);
            Thread.sleep(sleep);
        }
        LOG.info("module {} started", module);
    }

    @Override
    public void destroy() {
        LOG.info("module {} stopped", module);
    }

    /** The manifest beside this very class: asked for as a resource it could be any jar's. */
    private static String readManifest() throws IOException {
        URL place = VersionController.class.getProtectionDomain().getCodeSource().getLocation();
        try (InputStream in = URI.create(place + "META-INF/MANIFEST.MF").toURL().openStream()) {
            Attributes manifest = new Manifest(in).getMainAttributes();
            return manifest.getValue("Ark-Biz-Name") + " " + manifest.getValue("Ark-Biz-Version");
        }
    }
}
