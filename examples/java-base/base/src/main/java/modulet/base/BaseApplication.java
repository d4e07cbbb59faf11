package modulet.base;

import modulet.tunnel.Settings;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.boot.Banner;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.autoconfigure.SpringBootApplication;

/** A Spring Boot application that loads and unloads modules. Yours keeps its own main class and gets the two first lines. */
@SpringBootApplication(proxyBeanMethods = false)
public class BaseApplication {
    private static final Logger LOG = LoggerFactory.getLogger(BaseApplication.class);

    public static void main(String[] args) {
        // Without this SOFAArk starts inside the application only under Spring Boot's own fat-jar loader.
        System.setProperty("sofa.ark.embed.enable", "true");
        Settings.OWN.configureArklet();

        // The base is a module too (the "master biz"); this is its name in the base's own reports.
        System.setProperty("spring.application.name", Settings.OWN.name());
        SpringApplication application = new SpringApplication(BaseApplication.class);
        application.setBannerMode(Banner.Mode.OFF);
        application.setWebApplicationType(WebApplicationType.NONE);
        try {
            application.run(args);
            int port = FrontDoor.open(Settings.OWN);
            LOG.info("BASE STARTED {} http://{}:{}", Settings.OWN.id(), Settings.OWN.ip(), port);
        } catch (Throwable e) {
            // arklet's own threads would keep a JVM alive that can do nothing. (A taken port of arklet is an Error.)
            LOG.error("the base cannot start", e);
            System.exit(1);
        }
    }
}
