package modulet.modules;

import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.URL;
import java.util.jar.Attributes;
import java.util.jar.Manifest;
import modulet.base.Greeting;
import modulet.base.Greetings;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.DisposableBean;
import org.springframework.beans.factory.InitializingBean;
import org.springframework.core.env.Environment;

/**
 * Says which module and version it was loaded from. {@code --sleep=3000} makes its start take that many milliseconds,
 * {@code --leak=500} has it leave that many classes behind when it is gone.
 */
public class Greeter implements Greeting, InitializingBean, DisposableBean {
    private static final Logger LOG = LoggerFactory.getLogger(Greeter.class);

    private final String module;
    private final long sleep;
    private final int leak;

    public Greeter(Environment environment) throws IOException {
        this.module = readManifest();
        this.sleep = environment.getProperty("sleep", Long.class, 0L);
        this.leak = environment.getProperty("leak", Integer.class, 0);
    }

    @Override
    public String greet() {
        return module;
    }

    @Override
    public void afterPropertiesSet() throws InterruptedException, IOException {
        if (sleep > 0) {
            LOG.info("module {} takes {} ms to start", module, sleep);
            Thread.sleep(sleep);
        }
        if (leak > 0) {
            Leak.classes(leak);
        }
        Greetings.add(this);
        LOG.info("module {} started", module);
    }

    @Override
    public void destroy() {
        Greetings.remove(this);
        LOG.info("module {} stopped", module);
    }

    /** The manifest beside this very class: asked for as a resource it could be any jar's. */
    private static String readManifest() throws IOException {
        URL place = Greeter.class.getProtectionDomain().getCodeSource().getLocation();
        try (InputStream in = URI.create(place + "META-INF/MANIFEST.MF").toURL().openStream()) {
            Attributes manifest = new Manifest(in).getMainAttributes();
            return manifest.getValue("Ark-Biz-Name") + " " + manifest.getValue("Ark-Biz-Version");
        }
    }
}
