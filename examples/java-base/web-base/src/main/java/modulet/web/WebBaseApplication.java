package modulet.web;

import modulet.tunnel.Settings;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.boot.Banner;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;

/** {@code BaseApplication} with a web server that web modules share. What differs is said here. */
@SpringBootApplication(proxyBeanMethods = false)
public class WebBaseApplication {
    private static final Logger LOG = LoggerFactory.getLogger(WebBaseApplication.class);

    public static void main(String[] args) {
        System.setProperty("sofa.ark.embed.enable", "true");
        Settings.OWN.configureArklet();
        System.setProperty("spring.application.name", Settings.OWN.name());
        // See SharedTomcat.
        System.setProperty("ark.plugin.active.exclude", SharedTomcat.REPLACES);
        // A property of the JVM, so that modules have it too: modules with another port would open a server of their own.
        System.setProperty("server.port", String.valueOf(Settings.OWN.httpPort()));

        SpringApplication application = new SpringApplication(WebBaseApplication.class);
        application.setBannerMode(Banner.Mode.OFF);
        application.addInitializers(context -> SharedTomcat.publish());
        try {
            var environment = application.run(args).getEnvironment();
            LOG.info("BASE STARTED {} http://{}:{}", Settings.OWN.id(), Settings.OWN.ip(),
                    environment.getProperty("local.server.port"));
        } catch (Throwable e) {
            LOG.error("the base cannot start", e);
            System.exit(1);
        }
    }
}
